"""Curation: source videos to captioned multi-shot scenes. The whole Ray Data graph is in this file.

    phase     from                    to                               operators
    list      a source                the addresses of its videos      -
    analyze   each video              shots, keyframes, embeddings     AnalyzeVideos, EmbedShots
    assemble  all analyzed videos     videos, shots and scenes tables  -
    caption   each scene              a text for each of its shots     CaptionScenes
    cut       each kept shot          a video file, if asked for       CutShots
    finalize  the tables of this run  published tables, a report       -

A phase ends before the next begins. Operators commit their rows to a ledger and return receipts.
Rows that belong together are committed together: analyze commits a video with all of its shots,
caption commits a whole scene. The ledgers show what is done, so a killed run that is started again
finishes the rest.

This file knows the order of the phases, the fan-out and the resources. The packages in
`pipelines/curation` know what is pending, and what a row holds.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data

from fw_model.errors import ConfigError
from fw_model.files.lock import only_one
from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import model_paths
from pipelines.curation.analysis.analyze import LONG
from pipelines.curation.analysis.operators import AnalyzeVideos, EmbedShots
from pipelines.curation.analysis.phase import pending_videos
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.assembly.aesthetic import ShotAesthetics
from pipelines.curation.assembly.phase import AssemblePhase
from pipelines.curation.captioners.base import EngineResponse, check_captioner
from pipelines.curation.captioning import vllm_rounds
from pipelines.curation.captioning.operators import CaptionScenes
from pipelines.curation.captioning.phase import CaptionPhase
from pipelines.curation.config import CurationConfig, PerceptionConfig
from pipelines.curation.detectors.base import check_detector
from pipelines.curation.ledger.ledger import Ledger, RowT, config_hash
from pipelines.curation.ledger.receipts import MadeBy, Provenance, code_version
from pipelines.curation.ledger.shards import Shard
from pipelines.curation.ledger.tables import Part
from pipelines.curation.perception.base import make_perception, perception_in_use
from pipelines.curation.perception.keyframes import check_perception
from pipelines.curation.pools import (
    actor_pool,
    blocks_of,
    children_per_long_video,
    decoding_cpus,
    max_decoding_actors,
    on_nodes,
    set_up_ray_data,
)
from pipelines.curation.report.finalize import ThisRun, finalize
from pipelines.curation.report.prometheus import CurationSeries
from pipelines.curation.report.summary import CurationSummary
from pipelines.curation.run_ledgers import RunLedgers
from pipelines.curation.shot_files.phase import CutPhase, CutShots
from pipelines.curation.sources import list_sources
from pipelines.curation.spool import ShardSpool, SourceSpool
from pipelines.storage.shared_paths import sample, shared_paths
from pipelines.storage.store import Store

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""


def run_curation(
    config: CurationConfig, model: ModelConfig, *, on_progress: Progress | None = None
) -> CurationSummary:
    """Curate `config.source` into `config.output`, skipping what an earlier run has done.

    Raises ConfigError for a detector that does not work, InputError for a source without videos,
    StorageError if the output cannot be written. A video that cannot be used is not an error: it
    becomes a quarantined row.
    """
    show = on_progress or _log_progress
    series = CurationSeries()

    def report(phase: str, done: int, total: int) -> None:
        show(phase, done, total)
        series.on_progress(phase, done, total)

    curation = Curation(config, model, report)
    # Two runs on one output would spend its budget twice. A bucket has no lock: there, the
    # scheduler has to start one run at a time.
    is_local = "://" not in config.output
    with only_one("curation", Path(config.output)) if is_local else nullcontext():
        summary = curation.run()
    series.on_summary(summary)
    return summary


class Curation:
    """One run: its ledgers, and the six phases over them."""

    def __init__(self, config: CurationConfig, model: ModelConfig, on_progress: Progress) -> None:
        if not config.output:
            raise ConfigError("No output was given; name the folder to write to.")
        check_detector(config.detector.kind, config.detector.options)
        check_captioner(config.captioner, config.validation)
        self.aesthetics = ShotAesthetics.load(config.filters)
        self.perception = perception_in_use(config.perception, config.filters)
        self.config, self.model, self.on_progress = config, model, on_progress
        self.share = config.resources
        self.run_id = uuid.uuid4().hex[:12]
        self.store = Store(config.output)
        self.ledgers = RunLedgers.open(
            self.store, config, model, _perception_versions(self.perception)
        )

    def run(self) -> CurationSummary:
        """Run the phases in order."""
        set_up_ray_data()
        seconds: dict[str, float] = {}
        with _timed(seconds, "list"):
            sources = list_sources(self.config)
            self.ledgers = self.ledgers.for_videos(len(sources), self.run_id)
        with shared_paths(self._read_by_nodes(sources), self.config.output) as self.shared:
            with _timed(seconds, "analyze"):
                num_analyzed = self.analyze(sources)
            with _timed(seconds, "assemble"):
                parts = self.assemble(sources)
            with _timed(seconds, "caption"):
                num_captioned = self.caption(parts)
            with _timed(seconds, "cut"):
                parts = self.cut(parts)
        this_run = ThisRun(self.run_id, len(sources), num_analyzed, num_captioned, seconds)
        with _timed(seconds, "finalize"):
            return self.finalize(parts, this_run)

    def _read_by_nodes(self, sources: SourceSpool) -> list[tuple[str, str]]:
        """Return what every node must see: (role, path or URI)."""
        config = self.config
        options = [str(value) for value in config.detector.options.values()]
        files = [("detector file", option) for option in options if Path(option).is_file()]
        vocabulary = config.captioner.vocabulary
        files += [("vocabulary", vocabulary)] if vocabulary else []
        return [*sample("source", sources.some_found()), *files, *model_paths(self.model)]

    # analyze: video -> shots, keyframes, measurements -> embeddings

    def analyze(self, sources: SourceSpool) -> int:
        """Decode and embed what is not yet done; return how many videos were decoded."""
        ledgers, retry = self.ledgers, self.config.retry_quarantined
        pending = pending_videos(
            sources, ledgers.num_shards, ledgers.decoded, ledgers.analyzed, retry
        )
        num_videos = len(pending.to_decode)
        if num_videos:
            graph = self._decode_and_embed(pending.to_decode, num_children=1)
            long_ids = self._drain("analyze", graph, num_videos, pending.to_decode)
            if long_ids:  # each video takes several children, so fewer videos at once
                long = pending.to_decode.only("source_id", long_ids)
                num_children = children_per_long_video(self.share)
                graph = self._decode_and_embed(long, num_children=num_children)
                self._drain("long", graph, len(long))
        if len(pending.to_embed):
            graph = self._embed(blocks_of(pending.to_embed), len(pending.to_embed))
            self._drain("embed", graph, len(pending.to_embed))
        return num_videos

    def _decode_and_embed(self, videos: ShardSpool, *, num_children: int) -> ray.data.Dataset:
        config = self.config
        settings = AnalyzeSettings(
            config.decode, config.detector, config.keyframes, config_hash(config.detector)
        )
        provenance = self._provenance(self.ledgers.decoded, "analysis")
        rows = blocks_of(videos)  # one row per video
        rows = rows.map_batches(  # 1:1, CPU; decodes in child processes, commits some together
            on_nodes(AnalyzeVideos, self.shared),
            fn_constructor_args=(settings, self.store, self.ledgers.decoded, provenance),
            fn_constructor_kwargs={
                "num_children": num_children,
                "videos_per_commit": self.share.videos_per_commit,
                "seconds_per_commit": self.share.seconds_per_commit,
            },
            batch_size=None,
            **actor_pool(
                max_decoding_actors(self.share, len(videos)),
                cpus=decoding_cpus(self.share, num_children),
            ),
        )
        return self._embed(rows, len(videos))

    def _embed(self, receipts: ray.data.Dataset, num_videos: int) -> ray.data.Dataset:
        share = self.share
        provenance = self._provenance(self.ledgers.analyzed, "analysis")
        return receipts.map_batches(  # 1:1, CPU or GPU; commits a batch of videos together
            on_nodes(EmbedShots, self.shared),
            fn_constructor_args=(
                self.model,
                self.store,
                self.ledgers.decoded,
                self.ledgers.analyzed,
                provenance,
            ),
            fn_constructor_kwargs={"perception": self.perception},
            batch_size=min(share.videos_per_commit, max(1, num_videos // 4)),
            **actor_pool(share.embed_actors, cpus=share.embed_cpus, gpus=share.embed_gpus),
        )

    # assemble: analyzed videos -> tables of videos, shots and scenes; numbers only, shard by shard

    def assemble(self, sources: SourceSpool) -> list[Part]:
        """Filter and cluster; stage the videos, shots and scenes tables."""
        on_shard = partial(self.on_progress, "assemble")
        phase = AssemblePhase(
            self.config, self.store, self.ledgers.analyzed, self.aesthetics, self.run_id, on_shard
        )
        return phase.run(sources, self.ledgers.num_shards, self.ledgers.tasks)

    # caption: scene -> a text for each of its shots

    def caption(self, parts: list[Part]) -> int:
        """Caption the staged scenes that have no final answer yet; return how many there were."""
        provenance = self._provenance(self.ledgers.captioned, "captioning")
        phase = CaptionPhase(self.config, self.store, self.ledgers.captioned, provenance)
        scenes = phase.pending(parts, self.ledgers.tasks)
        total = scenes.count_in_lists("scene_ids")
        if total:
            estimate = phase.estimate(scenes, self.ledgers.tasks)
            responses = self._engine_responses(phase, scenes) if phase.asks_engine() else {}
            self._drain("caption", self._caption(phase, scenes, responses), total)
            if estimate is not None:
                phase.record(total, estimate, self.ledgers.shards)
        return total

    def _caption(
        self, phase: CaptionPhase, scenes: ShardSpool, responses: Mapping[str, EngineResponse]
    ) -> ray.data.Dataset:
        share, config = self.share, self.config
        rows = blocks_of(scenes)  # scenes_per_commit
        return rows.map_batches(  # 1:N, CPU or GPU; commits the scenes of a row together
            on_nodes(CaptionScenes, self.shared),
            fn_constructor_args=(config.captioner, config.validation, self.model, self.store),
            fn_constructor_kwargs={
                "ledger": self.ledgers.captioned,
                "provenance": phase.provenance,
                "num_actors": share.caption_actors,
                "prompts": phase.prompts(),
                "budget": phase.budget(),
                "responses": responses,
            },
            batch_size=1,
            **actor_pool(share.caption_actors, cpus=share.caption_cpus, gpus=share.caption_gpus),
        )

    def _engine_responses(
        self, phase: CaptionPhase, scenes: ShardSpool
    ) -> dict[str, EngineResponse]:
        """Answer the questions about scenes with a model on the cluster (ray_llm), in rounds."""
        captioner, validation = self.config.captioner, self.config.validation
        engine = vllm_rounds.make_processor(captioner)
        settings = (captioner, validation, phase.prompts(), self.model, self.store)

        def ask(answers: Mapping[str, EngineResponse]) -> list[EngineResponse]:
            num_actors = self.share.caption_actors
            rows = blocks_of(scenes)
            rows = rows.map_batches(  # 1:N, CPU; what to ask next, given the answers so far
                on_nodes(vllm_rounds.OpenQuestions, self.shared),
                fn_constructor_args=(*settings, answers),
                batch_size=1,
                **actor_pool(num_actors, cpus=1.0),
            )
            if not rows.take(1):  # nothing to ask: do not start the engine
                return []
            rows = engine(rows)  # 1:1, the GPUs of curation.captioner.engine
            keep = partial(vllm_rounds.keep_row, store=self.store)
            return rows.map(keep).take_all()  # 1:1, CPU; writes each answer to the store

        return vllm_rounds.answer_rounds(
            ask,
            captioner,
            validation,
            on_round=lambda number, n: self.on_progress(f"answer, round {number}", n, n),
        )

    # cut: kept shot -> a video file of its own

    def cut(self, parts: list[Part]) -> list[Part]:
        """Cut the kept shots into files, if asked to; return the parts with them."""
        config = self.config
        if config.cut == "none":
            return parts
        provenance = self._provenance(self.ledgers.shot_files, "shot_files")
        phase = CutPhase(self.store, self.ledgers.shot_files, provenance)
        videos = phase.pending(parts, self.ledgers.tasks)
        if len(videos):
            num_actors = max_decoding_actors(self.share, len(videos))
            is_copy = config.cut == "copy"
            rows = blocks_of(videos)  # one row per video
            rows = rows.map_batches(  # 1:N, CPU; cuts in a child process, commits a video's files
                on_nodes(CutShots, self.shared),
                fn_constructor_args=(
                    is_copy,
                    config.decode,
                    self.store,
                    self.ledgers.shot_files,
                    provenance,
                ),
                batch_size=1,
                **actor_pool(num_actors, cpus=self.share.analyze_cpus),
            )
            self._drain("cut", rows, videos.count_in_lists("shot_ids"))
        return phase.with_files(parts, self.ledgers.tasks)

    # finalize: staged tables -> published tables, counts, report

    def finalize(self, parts: list[Part], this_run: ThisRun) -> CurationSummary:
        """Publish the tables with a report, and merge the small files of the ledgers."""
        used = (self.ledgers.decoded, self.ledgers.analyzed, self.ledgers.captioned)
        about = {
            "run_id": self.run_id,
            "settings": {ledger.stage: ledger.settings_hash for ledger in used},
            "config": self.config.model_dump(mode="json"),
        }
        summary = finalize(
            self.store, parts, self.ledgers.captioned, about, this_run, self.ledgers.tasks
        )
        self.ledgers.merge()
        return summary

    def _provenance(self, ledger: Ledger[RowT], made_by: MadeBy) -> Provenance:
        return Provenance(ledger.settings_hash, code_version(made_by), self.run_id)

    def _drain(
        self, phase: str, graph: ray.data.Dataset, total: int, videos: ShardSpool | None = None
    ) -> set[str]:
        """Run a graph to its end and report its progress; return the ids with status LONG.

        videos: what is being analyzed. A shard that is done is merged at once, so that a run that
        is killed leaves small files of few shards only.
        """
        done, long, merging = 0, set(), list[Any]()
        left = Counter(videos.num_rows) if videos else None
        self.on_progress(phase, 0, total)
        batches: Iterable[pa.Table] = graph.iter_batches(batch_size=None, batch_format="pyarrow")
        for receipts in batches:
            done += receipts.num_rows
            for row in receipts.to_pylist():
                if row["status"] == LONG:
                    long.add(row["id"])
                elif left is not None:
                    shard = Shard.parse(row["key"])
                    left[shard] -= 1
                    merging += [] if left[shard] else self.ledgers.merge_analyzed(shard)
            self.on_progress(phase, done, total)
        for result in merging:
            self.ledgers.tasks.get(result)
        return long


def _perception_versions(config: PerceptionConfig) -> list[dict[str, str]]:
    """Return what decides the results of perception, nothing if it is off; ConfigError if a
    perceiver does not work or its package is not installed."""
    perception = make_perception(config)
    check_perception(perception)
    return [versions] if (versions := perception.versions()) else []


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[phase] = round(time.perf_counter() - started, 3)


def _log_progress(phase: str, done: int, total: int) -> None:
    logger.info("%s: %d of %d", phase, done, total)
