"""A generator without a model: deterministic pictures from a hash of the request.

Keeps StoryGenerator's contract: a chunk is a pure function of its request, choosing looks at
embeddings alone. `FAKE_STEP_S` in the environment makes each of its steps take that long.
"""

import hashlib
import os
import time

import numpy as np
import torch

from fw_model.cache.shot import REFERENCE_SHOT, Keyframe, admit, retrieve
from fw_model.diffusion.sampler import Cancelled
from fw_model.errors import CheckpointError
from fw_model.generation.request import ChunkResult
from serve.work.generators import LoadedGenerator

CHUNK_LATENTS = 3
NUM_STEPS = 4
WIDTH = 16  # of an embedding


class FakeGenerator:
    """Draws noise whose seed is all that the request holds."""

    def __init__(self, *, fail=None, on_chunk=None):
        self.fail = fail  # called with the request; may raise
        self.on_chunk = on_chunk
        self.requests = []

    def retrieve(self, prompt, bank, *, top_k=None):
        return retrieve(embed(prompt), bank, 3 if top_k is None else top_k)

    def admit(self, candidates, bank):
        return admit(candidates, bank)

    def reference_keyframe(self, image, *, name, weight=1.0, width, height):
        return keyframe(image, shot=REFERENCE_SHOT, frame=0, caption=name)

    def generate_chunk(self, request, *, on_step=None, should_cancel=None):
        self.requests.append(request)
        if self.fail is not None:
            self.fail(request)
        for step in range(NUM_STEPS):
            if should_cancel is not None and should_cancel():
                raise Cancelled("asked to stop")
            time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
            if on_step is not None:
                on_step(step + 1, NUM_STEPS)
        if self.on_chunk is not None:
            self.on_chunk(request)
        rng = np.random.default_rng(int(fingerprint(request), 16) % 2**63)
        latents = torch.from_numpy(rng.standard_normal((4, CHUNK_LATENTS, 2, 2), dtype=np.float32))
        num_frames = 4 * CHUNK_LATENTS - (0 if request.history else 3)
        shape = (num_frames, request.height // 8, request.width // 8, 3)
        small = rng.integers(0, 256, shape, dtype=np.uint8)
        frames = small.repeat(8, axis=1).repeat(8, axis=2)
        first = sum(chunk.latents.shape[1] for chunk in request.history) * 4
        made = keyframe(
            frames[num_frames // 2],
            shot=request.shot,
            frame=first + num_frames // 2,
            caption=request.prompt,
        )
        return ChunkResult(latents, frames, (made,), seed=request.story_seed)


def keyframe(image, *, shot, frame, caption):
    """A keyframe whose embedding is that of its caption, tinted by its frame number."""
    embedding = embed(caption) + 0.2 * embed(f"frame {frame}")
    digest = hashlib.sha256(image.tobytes() + f"{shot}:{frame}".encode()).hexdigest()[:20]
    mean = torch.full((4, 1, 2, 2), float(image.mean()))
    unit = (embedding / np.linalg.norm(embedding)).astype(np.float32)
    return Keyframe(digest, shot, frame, mean, unit, caption, image)


def embed(text):
    """The unit sum of a fixed random vector for each word."""
    words = text.lower().split() or [""]
    vectors = [
        np.random.default_rng(int(hashlib.sha256(word.encode()).hexdigest()[:8], 16))
        .standard_normal(WIDTH)
        .astype(np.float32)
        for word in words
    ]
    total = np.sum(vectors, axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)


def fingerprint(request):
    """A hash over everything that a chunk may depend on."""
    digest = hashlib.sha256(
        repr(
            (request.story_seed, request.shot, request.chunk, request.version, request.prompt,
             request.width, request.height, request.negative_prompt, request.num_inference_steps,
             request.guidance_scale)
        ).encode()
    )  # fmt: skip
    for chunk in request.history:
        digest.update(chunk.latents.numpy().tobytes() + chunk.prompt.encode())
    for scored in request.keyframes:
        digest.update(scored.keyframe.latents.numpy().tobytes())
        digest.update(f"{scored.keyframe.keyframe_id} {scored.keyframe.caption}".encode())
    return digest.hexdigest()


def load_broken(model, generation):
    """A generator whose weights are missing."""
    raise CheckpointError("the weights are missing")


def load(model=None, generation=None):
    """What `serving.generator` may name."""
    return LoadedGenerator(FakeGenerator(), fps=12.0, embedder_id="fake-16")
