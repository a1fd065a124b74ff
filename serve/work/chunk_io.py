"""Rows -> ChunkRequest, ChunkResult -> rows: the seam between the durable store and the model.

Latents [C, F, h, w] are stored as safetensors, keyframe images as PNG, frames as fragments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
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
from serve.stores import keyframes, shots, stories
from serve.stores.blobs import BlobStore, StoredBlob
from serve.stores.keyframes import BankEntry, MadeKeyframe, RetrievedEntry
from serve.stores.tables import Chunk, Reference, Retrieval, Segment, Shot, Story
from serve.stores.tables import Keyframe as KeyframeRow
from serve.work.films import encode_fragment
from serve.work.generators import LoadedGenerator
from serve.work.jobs import ChunkCommit, Claim

LATENTS_TYPE = "application/x-safetensors"
LATENTS_IN_MEMORY = 256  # chunks whose latents a worker keeps instead of reading them again

NO_LATENTS = torch.empty(0)
NO_IMAGE = np.empty((0, 0, 3), dtype=np.uint8)


@dataclass(frozen=True)
class ChunkPlan:
    """The rows that a claimed chunk depends on, read in one snapshot."""

    story: Story
    shot: Shot
    segment: Segment
    history: Sequence[tuple[Chunk, str]]  # finished chunks of this version, with their prompts
    retrieved: Sequence[RetrievedEntry]  # empty before the segment's first commit
    bank: Sequence[BankEntry]  # read only where nothing was retrieved yet
    own_keyframes: Sequence[BankEntry]
    missing_references: Sequence[Reference]

    @property
    def segment_has_begun(self) -> bool:
        """Whether a chunk of the segment is committed, so that what it reads is settled."""
        return any(chunk.segment_id == self.segment.id for chunk, _ in self.history)


def read_plan(session: Session, claim: Claim) -> ChunkPlan | None:
    """Read what the claimed chunk depends on; None if it was deleted or cancelled meanwhile."""
    chunk = session.get(Chunk, claim.chunk_id)
    if chunk is None:
        return None
    shot = session.get_one(Shot, claim.shot_id)
    prompts = {s.id: s.prompt for s in shots.segments(session, shot, claim.version)}
    done = shots.chunks(session, shot.id, claim.version)
    retrieved = keyframes.retrieved(session, chunk.segment_id)
    begun = any(other.segment_id == chunk.segment_id for other in done)
    return ChunkPlan(
        story=session.get_one(Story, claim.story_id),
        shot=shot,
        segment=session.get_one(Segment, chunk.segment_id),
        history=[(other, prompts[other.segment_id]) for other in done],
        retrieved=retrieved,
        bank=[] if begun else keyframes.bank(session, shot),
        own_keyframes=keyframes.of_shot(session, shot, claim.version),
        missing_references=[] if begun else keyframes.missing(session, shot.story_id),
    )


@dataclass(frozen=True)
class PreparedChunk:
    """A request, and the rows that record what its segment reads (none if they are there)."""

    request: ChunkRequest
    retrievals: Sequence[Retrieval]


class ChunkExchange:
    """Builds requests from rows and rows from results, for one loaded generator."""

    def __init__(self, blobs: BlobStore, loaded: LoadedGenerator, *, fragment_crf: int) -> None:
        self._blobs = blobs
        self._loaded = loaded
        self._fragment_crf = fragment_crf
        self._latents: OrderedDict[str, Tensor] = OrderedDict()

    def reference_keyframe(self, reference: Reference, story: Story, *, now: float) -> MadeKeyframe:
        """Make the keyframe of a reference image and store its blobs."""
        keyframe = self._loaded.generator.reference_keyframe(
            read_image(self._blobs.get(reference.image_blob)),
            name=reference.name,
            weight=reference.weight,
            width=story.width,
            height=story.height,
        )
        return self._made(keyframe, story_id=story.id, now=now)

    def prepare(self, plan: ChunkPlan, claim: Claim) -> PreparedChunk:
        """Build the request of a claimed chunk, choosing keyframes if its segment has none yet."""
        if plan.retrieved or plan.segment_has_begun:
            read, retrievals = [self._recorded(item, plan) for item in plan.retrieved], []
        else:
            chosen = self._choose(plan)
            read = [
                replace(scored, keyframe=self._whole(scored.keyframe, row))
                for scored, row in chosen
            ]
            retrievals = [
                Retrieval(
                    segment_id=plan.segment.id,
                    rank=rank,
                    keyframe_id=row.id,
                    score=scored.score,
                    weight=scored.keyframe.weight,
                    pinned=scored.keyframe.pinned,
                )
                for rank, (scored, row) in enumerate(chosen)
            ]
        request = ChunkRequest(
            story_seed=plan.story.seed,
            shot=plan.shot.index,
            chunk=claim.index,
            version=claim.version,
            prompt=plan.segment.prompt,
            width=plan.story.width,
            height=plan.story.height,
            history=tuple(
                HistoryChunk(self._read_latents(chunk.latents_blob), prompt)
                for chunk, prompt in plan.history
            ),
            keyframes=tuple(read),
            negative_prompt=plan.shot.negative_prompt,
            num_inference_steps=plan.shot.num_inference_steps,
            guidance_scale=plan.shot.guidance_scale,
        )
        return PreparedChunk(request, retrievals)

    def generate(
        self,
        prepared: PreparedChunk,
        *,
        on_step: Callable[[int, int], None],
        should_cancel: Callable[[], bool],
    ) -> ChunkResult:
        """Draw a prepared chunk; raises Cancelled when `should_cancel` says so."""
        return self._loaded.generator.generate_chunk(
            prepared.request, on_step=on_step, should_cancel=should_cancel
        )

    def commit(
        self, plan: ChunkPlan, claim: Claim, prepared: PreparedChunk, result: ChunkResult,
        *, seconds: float, now: float,
    ) -> ChunkCommit:  # fmt: skip
        """Store the blobs of a result and return the rows that will point at them."""
        fragment = encode_fragment(result.frames, fps=self._loaded.fps, crf=self._fragment_crf)
        own = [_bare(entry, plan) for entry in plan.own_keyframes]
        made = [
            self._made(keyframe, story_id=plan.story.id, now=now)
            for keyframe in self._loaded.generator.admit(result.keyframes, own)
        ]
        for keyframe in made:
            keyframe.row.shot_id = claim.shot_id
            keyframe.row.chunk_id = claim.chunk_id
            keyframe.row.version = claim.version
        return ChunkCommit(
            latents=self._put_latents(result.latents),
            fragment=self._blobs.put(fragment, "video/mp4"),
            num_frames=len(result.frames),
            mode=prepared.request.mode,
            seed=result.seed,
            seconds=seconds,
            keyframes=made,
            retrievals=prepared.retrievals,
        )

    def _recorded(self, item: RetrievedEntry, plan: ChunkPlan) -> ScoredKeyframe:
        row, retrieval = item.entry.keyframe, item.retrieval
        keyframe = self._whole(_bare(item.entry, plan), row)
        keyframe = replace(keyframe, weight=retrieval.weight, pinned=retrieval.pinned)
        return ScoredKeyframe(keyframe, retrieval.score)

    def _choose(self, plan: ChunkPlan) -> list[tuple[ScoredKeyframe, KeyframeRow]]:
        """Retrieve from the bank, on embeddings alone."""
        for entry in plan.bank:
            self._check_comparable(entry.keyframe)
        rows = {entry.keyframe.id: entry.keyframe for entry in plan.bank}
        # Row ids stand in for the generator's while it chooses: they lead back to the rows.
        bank = [replace(_bare(e, plan), keyframe_id=e.keyframe.id) for e in plan.bank]
        chosen = self._loaded.generator.retrieve(plan.segment.prompt, bank, top_k=plan.shot.top_k)
        return [(scored, rows[scored.keyframe.keyframe_id]) for scored in chosen]

    def _whole(self, keyframe: Keyframe, row: KeyframeRow) -> Keyframe:
        """The keyframe with its latents and image read."""
        return replace(
            keyframe,
            keyframe_id=row.digest,
            latents=self._read_latents(row.latents_blob),
            image=read_image(self._blobs.get(row.image_blob)),
        )

    def _check_comparable(self, row: KeyframeRow) -> None:
        if row.model_id != self._loaded.embedder_id:
            raise InputError(
                f"The story's keyframes were embedded by {row.model_id!r} but this server runs "
                f"{self._loaded.embedder_id!r}; serve it with the embedder it was begun with."
            )

    def _made(self, keyframe: Keyframe, *, story_id: str, now: float) -> MadeKeyframe:
        latents = self._put_latents(keyframe.latents)
        image = self._blobs.put(encode_png(keyframe.image), "image/png")
        row = KeyframeRow(
            id=stories.new_id("keyframe"),
            story_id=story_id,
            digest=keyframe.keyframe_id,
            version=0,
            frame=keyframe.frame,
            caption=keyframe.caption,
            embedding=np.asarray(keyframe.embedding, dtype="<f4").tobytes(),
            model_id=self._loaded.embedder_id,
            latents_blob=latents.key,
            image_blob=image.key,
            created_at=now,
        )
        return MadeKeyframe(row, (latents, image))

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


def _bare(entry: BankEntry, plan: ChunkPlan) -> Keyframe:
    """A keyframe of the bank without latents and image: what choosing needs."""
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
    asked = next((r for r in plan.shot.references if r["reference_id"] == reference.id), None)
    weight = asked.get("weight") if asked is not None else None
    return replace(
        keyframe,
        name=reference.name,
        weight=reference.weight if weight is None else weight,
        pinned=reference.pinned or asked is not None,
        muted=reference.muted and asked is None,
    )
