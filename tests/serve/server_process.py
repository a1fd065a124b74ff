"""`filmweaver serve` without the command line: DATA_DIR PORT GENERATOR."""

import logging
import sys

import ray

from cluster.ray_start import start_ray
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig
from serve.app import run
from serve.config import ServingConfig


def main():
    data_dir, port, generator = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    start_ray("local", num_cpus=3, include_dashboard=False, log_to_driver=True)
    serving = ServingConfig(data_dir=data_dir, generator=generator)
    size = {} if generator == "story" else {"width": 64, "height": 48}
    run(serving, ModelConfig(device="cpu", **size), GenerationConfig(), port=int(port))
    ray.shutdown()


if __name__ == "__main__":
    main()
