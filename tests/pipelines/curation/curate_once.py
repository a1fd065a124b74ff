"""Curates a folder on a Ray of its own: a process for a test to kill."""

import sys

from cluster.ray_start import start_ray
from pipelines.curation.config import ResourceConfig
from tests.pipelines.curation.test_curate import curate

if __name__ == "__main__":
    start_ray("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    few = ResourceConfig(scenes_per_commit=8)  # so that there are many moments between commits
    curate(sys.argv[1], sys.argv[2], resources=few)
