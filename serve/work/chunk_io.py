"""Rows -> ChunkRequest and ChunkResult -> rows: where the stores and the generator meet.

Latents [C, F, h, w] are stored as safetensors, keyframe images as PNG, frames as fragments. Writes
blobs but no rows: it knows nothing of transactions.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from sqlalchemy.orm import Session
from torch import Tensor

from fw_model.cache.shot import REFERENCE_SHOT, Keyframe, ScoredKeyframe
from fw_model.errors import InputError
from fw_model.generation.request import ChunkRequest, ChunkResult, HistoryChunk
from fw_model.media.images import read_image
from fw_model.media.keyframes import encode_png
from serve.stores import keyframes, rows, shots
from serve.stores.blobs import BlobStore, StoredBlob
from serve.stores.keyframes import BankEntry, NewKeyframe, RetrievedEntry
from serve.stores.tables import Chunk, Reference, Retrieval, Segment, Shot, Story
from serve.stores.tables import Keyframe as KeyframeRow
from serve.work.films import encode_fragment
from serve.work.generators import LoadedGenerator
from serve.work.jobs import ChunkCommit, Claim

LATENTS_TYPE = "application/x-safetensors"
LATENTS_IN_MEMORY = 256  # latents that a worker keeps instead of reading them again

NO_LATENTS = torch.empty(0)
NO_IMAGE = np.empty((0, 0, 3), dtype=np.uint8)


@dataclass(frozen=True)
class ChunkInputs:
    """The rows that a claimed chunk depends on, read in one snapshot."""

    claim: Claim
    story: Story
    shot: Shot
    segment: Segment
    history: Sequence[tuple[Chunk, str]]  # committed chunks of this version, with their prompts
    segment_has_begun: bool  # a chunk of it is committed, so the keyframes it reads are settled
    retrieved: Sequence[RetrievedEntry]  # empty until the segment has begun
    bank: Sequence[BankEntry]  # empty once the segment has begun
    own_keyframes: Sequence[BankEntry]
    references_without_keyframe: Sequence[Reference]  # empty once the segment has begun


def read_inputs(session: Session, claim: Claim) -> ChunkInputs | None:
    """Read what the claimed chunk depends on; None if it was deleted or cancelled."""
    chunk = session.get(Chunk, claim.chunk_id)
    if chunk is None:
        return None
    shot = session.get_one(Shot, claim.shot_id)
    prompts = {s.id: s.prompt for s in shots.segments(session, shot, claim.version)}
    done = shots.committed_chunks(session, shot, claim.version)
    has_begun = any(other.segment_id == chunk.segment_id for other in done)
    without_keyframe = keyframes.references_without_keyframe
    return ChunkInputs(
        claim=claim,
        story=session.get_one(Story, claim.story_id),
        shot=shot,
        segment=session.get_one(Segment, chunk.segment_id),
        history=[(other, prompts[other.segment_id]) for other in done],
        segment_has_begun=has_begun,
        retrieved=keyframes.retrieved(session, chunk.segment_id),
        bank=[] if has_begun else keyframes.bank(session, shot),
        own_keyframes=keyframes.of_shot(session, shot, claim.version),
        references_without_keyframe=([] if has_begun else without_keyframe(session, shot.story_id)),
    )


@dataclass(frozen=True)
class PreparedChunk:
    """A request, and rows for the keyframes that its segment reads (empty once recorded)."""

    request: ChunkRequest
    retrievals: Sequence[Retrieval]


class ChunkIO:
    """Builds requests from rows and rows from results, for one loaded generator."""

    def __init__(self, blobs: BlobStore, loaded: LoadedGenerator, *, fragment_crf: int) -> None:
        self._blobs = blobs
        self._loaded = loaded
        self._fragment_crf = fragment_crf
        self._latents: OrderedDict[str, Tensor] = OrderedDict()

    def reference_keyframe(self, reference: Reference, story: Story, *, now: float) -> NewKeyframe:
        """Make the keyframe of a reference image and store its blobs."""
        keyframe = self._loaded.generator.reference_keyframe(
            read_image(self._blobs.get(reference.image_blob)),
            name=reference.name,
            weight=reference.weight,
            width=story.width,
            height=story.height,
        )
        return self._store_keyframe(keyframe, story_id=story.id, now=now)

    def prepare(self, inputs: ChunkInputs) -> PreparedChunk:
        """Build the request of a claimed chunk; the first of a segment chooses its keyframes."""
        retrievals: list[Retrieval] = []
        if inputs.segment_has_begun:
            read = [self._read_retrieved(item, inputs) for item in inputs.retrieved]
        else:
            chosen = self._choose(inputs)
            read = [
                replace(scored, keyframe=self._with_pixels(scored.keyframe, row))
                for scored, row in chosen
            ]
            retrievals = [
                Retrieval(
                    segment_id=inputs.segment.id,
                    rank=rank,
                    keyframe_id=row.id,
                    score=scored.score,
                    weight=scored.keyframe.weight,
                    pinned=scored.keyframe.pinned,
                )
                for rank, (scored, row) in enumerate(chosen)
            ]
        request = ChunkRequest(
            story_seed=inputs.story.seed,
            shot=inputs.shot.index,
            chunk=inputs.claim.index,
            version=inputs.claim.version,
            prompt=inputs.segment.prompt,
            width=inputs.story.width,
            height=inputs.story.height,
            history=tuple(
                HistoryChunk(self._read_latents(chunk.latents_blob), prompt)
                for chunk, prompt in inputs.history
            ),
            keyframes=tuple(read),
            negative_prompt=inputs.shot.negative_prompt,
            num_inference_steps=inputs.shot.num_inference_steps,
            guidance_scale=inputs.shot.guidance_scale,
        )
        return PreparedChunk(request, retrievals)

    def store_result(
        self,
        inputs: ChunkInputs,
        prepared: PreparedChunk,
        result: ChunkResult,
        *,
        seconds: float,
        now: float,
    ) -> ChunkCommit:
        """Store the blobs of a result; returns what to commit to the database."""
        fragment = encode_fragment(result.frames, fps=self._loaded.fps, crf=self._fragment_crf)
        own = [_without_pixels(entry, inputs.shot) for entry in inputs.own_keyframes]
        new_keyframes = [
            self._store_keyframe(keyframe, story_id=inputs.story.id, now=now)
            for keyframe in self._loaded.generator.admit(result.keyframes, own)
        ]
        for keyframe in new_keyframes:
            keyframe.row.shot_id = inputs.claim.shot_id
            keyframe.row.chunk_id = inputs.claim.chunk_id
            keyframe.row.version = inputs.claim.version
        return ChunkCommit(
            latents=self._put_latents(result.latents),
            fragment=self._blobs.put(fragment, "video/mp4"),
            num_frames=len(result.frames),
            mode=prepared.request.mode,
            seed=result.seed,
            seconds=seconds,
            keyframes=new_keyframes,
            retrievals=prepared.retrievals,
        )

    def _read_retrieved(self, item: RetrievedEntry, inputs: ChunkInputs) -> ScoredKeyframe:
        row, retrieval = item.entry.keyframe, item.retrieval
        keyframe = self._with_pixels(_without_pixels(item.entry, inputs.shot), row)
        keyframe = replace(keyframe, weight=retrieval.weight, pinned=retrieval.pinned)
        return ScoredKeyframe(keyframe, retrieval.score)

    def _choose(self, inputs: ChunkInputs) -> list[tuple[ScoredKeyframe, KeyframeRow]]:
        """Retrieve from the bank by embeddings alone."""
        by_id = {entry.keyframe.id: entry.keyframe for entry in inputs.bank}
        for row in by_id.values():
            self._check_comparable(row)
        # Row ids replace the generator's own ids here: they lead from the choice to the rows.
        bank = [
            replace(_without_pixels(entry, inputs.shot), keyframe_id=entry.keyframe.id)
            for entry in inputs.bank
        ]
        chosen = self._loaded.generator.retrieve(
            inputs.segment.prompt, bank, top_k=inputs.shot.top_k
        )
        return [(scored, by_id[scored.keyframe.keyframe_id]) for scored in chosen]

    def _with_pixels(self, keyframe: Keyframe, row: KeyframeRow) -> Keyframe:
        """The keyframe with its latents and image, read from the blobs."""
        return replace(
            keyframe,
            keyframe_id=row.digest,
            latents=self._read_latents(row.latents_blob),
            image=read_image(self._blobs.get(row.image_blob)),
        )

    def _check_comparable(self, row: KeyframeRow) -> None:
        if row.model_id != self._loaded.embedder_id:
            raise InputError(
                f"The story's keyframes were embedded by {row.model_id!r}, but this server uses"
                f" {self._loaded.embedder_id!r}; serve the story with the embedder it began with."
            )

    def _store_keyframe(self, keyframe: Keyframe, *, story_id: str, now: float) -> NewKeyframe:
        latents = self._put_latents(keyframe.latents)
        image = self._blobs.put(encode_png(keyframe.image), "image/png")
        row = KeyframeRow(
            id=rows.new_id("keyframe"),
            story_id=story_id,
            digest=keyframe.keyframe_id,
            frame=keyframe.frame,
            caption=keyframe.caption,
            embedding=np.asarray(keyframe.embedding, dtype="<f4").tobytes(),
            model_id=self._loaded.embedder_id,
            latents_blob=latents.key,
            image_blob=image.key,
            created_at=now,
        )
        return NewKeyframe(row, (latents, image))

    def _put_latents(self, latents: Tensor) -> StoredBlob:
        plain = latents.detach().to("cpu", torch.float32).contiguous()
        blob = self._blobs.put(save_tensors({"latents": plain}), LATENTS_TYPE)
        self._remember(blob.key, plain)
        return blob

    def _read_latents(self, key: str | None) -> Tensor:
        assert key is not None, "a committed chunk has latents"
        latents = self._latents.get(key)
        if latents is None:
            latents = load_tensors(self._blobs.get(key))["latents"]
        self._remember(key, latents)
        return latents

    def _remember(self, key: str, latents: Tensor) -> None:
        self._latents[key] = latents
        self._latents.move_to_end(key)
        while len(self._latents) > LATENTS_IN_MEMORY:
            self._latents.popitem(last=False)


def _without_pixels(entry: BankEntry, shot: Shot) -> Keyframe:
    """A keyframe as `shot` may read it, without latents and image: enough to choose it."""
    row, reference = entry.keyframe, entry.reference
    keyframe = Keyframe(
        keyframe_id=row.digest,
        shot=REFERENCE_SHOT if entry.shot_index is None else entry.shot_index,
        frame=row.frame,
        latents=NO_LATENTS,
        embedding=np.frombuffer(row.embedding, dtype="<f4"),
        caption=row.caption,
        image=NO_IMAGE,
    )
    if reference is None:
        return keyframe
    use = next((use for use in shot.references if use["reference_id"] == reference.id), None)
    weight = use["weight"] if use is not None else None
    return replace(
        keyframe,
        name=reference.name,
        weight=reference.weight if weight is None else weight,
        pinned=reference.pinned or use is not None,
        muted=reference.muted and use is None,
    )
