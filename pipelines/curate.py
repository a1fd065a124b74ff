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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import pyarrow as pa
import ray.data

from fw_model.errors import ConfigError
from fw_model.files.lock import only_one
from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import part_fingerprint
from fw_model.loading.folders import model_paths
from fw_model.schemas.curated import ANALYZED_VIDEOS
from fw_model.schemas.curated_rows import AnalyzedVideoRow
from pipelines.curation.analysis.analyze import ANALYZE_VERSION, LONG
from pipelines.curation.analysis.operators import (
    PENDING_VIDEO,
    AnalyzeVideos,
    EmbedShots,
    PendingVideoRow,
)
from pipelines.curation.analysis.phase import pending_videos
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.assembly.aesthetic import ShotAesthetics
from pipelines.curation.assembly.phase import AssemblePhase
from pipelines.curation.captioners.base import EngineResponse, check_captioner
from pipelines.curation.captioning import vllm_rounds
from pipelines.curation.captioning.operators import SCENE_PART, CaptionScenes, ScenePart
from pipelines.curation.captioning.phase import CaptionPhase, caption_ledger
from pipelines.curation.config import CurationConfig, PerceptionConfig
from pipelines.curation.detectors.base import check_detector
from pipelines.curation.ledger.ledger import Ledger, RowT, config_hash
from pipelines.curation.ledger.receipts import RECEIPT, MadeBy, Provenance, code_version
from pipelines.curation.ledger.tables import Part, published_ids
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
from pipelines.curation.shot_files.phase import PENDING_CUT, CutPhase, CutShots, cut_ledger
from pipelines.curation.sources import Source, list_sources
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
        limits = config.decode
        damage = [limits.max_pixels, limits.max_error_ratio, limits.max_missing_ratio]
        decoded = config_hash(ANALYZE_VERSION, damage, config.detector, config.keyframes)
        clip = part_fingerprint(model, ("clip",))
        analyzed = config_hash(decoded, clip, *_perception_versions(self.perception))
        self.decoded = self._analysis_ledger("decoded", decoded)
        self.analyzed = self._analysis_ledger("analyzed", analyzed)
        self.captioned = caption_ledger(self.store, config, analyzed)
        self.shot_files = cut_ledger(self.store, config, decoded)

    def _analysis_ledger(self, stage: str, settings_hash: str) -> Ledger[AnalyzedVideoRow]:
        return Ledger(self.store, stage, settings_hash, ANALYZED_VIDEOS, "source_id")

    def run(self) -> CurationSummary:
        """Run the phases in order."""
        set_up_ray_data()
        seconds: dict[str, float] = {}
        with _timed(seconds, "list"):
            sources = list_sources(self.config)
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
            return self.finalize(sources, parts, this_run)

    def _read_by_nodes(self, sources: list[Source]) -> list[tuple[str, str]]:
        """Return what every node must see: (role, path or URI)."""
        config = self.config
        options = [str(value) for value in config.detector.options.values()]
        files = [("detector file", option) for option in options if Path(option).is_file()]
        vocabulary = config.captioner.vocabulary
        files += [("vocabulary", vocabulary)] if vocabulary else []
        found = [source.uri for source in sources if source.size_bytes >= 0]
        return [*sample("source", found), *files, *model_paths(self.model)]

    # analyze: video -> shots, keyframes, measurements -> embeddings

    def analyze(self, sources: list[Source]) -> int:
        """Decode and embed what is not yet done; return how many videos were decoded."""
        videos, not_embedded = pending_videos(
            sources, self.decoded, self.analyzed, self.config.retry_quarantined
        )
        if videos:
            graph = self._decode_and_embed(videos, num_children=1)
            long_ids = self._drain("analyze", graph, len(videos))
            long = [video for video in videos if video["source_id"] in long_ids]
            if long:  # each video takes several children, so fewer videos at once
                num_children = children_per_long_video(self.share)
                graph = self._decode_and_embed(long, num_children=num_children)
                self._drain("long", graph, len(long))
        if not_embedded:
            entries = not_embedded.items()
            receipts = [{"id": i, "status": e.values["status"], "key": e.key} for i, e in entries]
            rows = blocks_of(receipts, RECEIPT)
            self._drain("embed", self._embed(rows, len(receipts)), len(receipts))
        return len(videos)

    def _decode_and_embed(
        self, videos: Sequence[PendingVideoRow], *, num_children: int
    ) -> ray.data.Dataset:
        config = self.config
        settings = AnalyzeSettings(
            config.decode, config.detector, config.keyframes, config_hash(config.detector)
        )
        provenance = self._provenance(self.decoded, "analysis")
        rows = blocks_of(videos, PENDING_VIDEO)  # one row per video
        rows = rows.map_batches(  # 1:1, CPU; decodes in child processes, commits each video
            on_nodes(AnalyzeVideos, self.shared),
            fn_constructor_args=(settings, self.store, self.decoded, provenance),
            fn_constructor_kwargs={"num_children": num_children},
            batch_size=1,
            **actor_pool(
                max_decoding_actors(self.share, len(videos)),
                cpus=decoding_cpus(self.share, num_children),
            ),
        )
        return self._embed(rows, len(videos))

    def _embed(self, receipts: ray.data.Dataset, num_videos: int) -> ray.data.Dataset:
        share = self.share
        provenance = self._provenance(self.analyzed, "analysis")
        return receipts.map_batches(  # 1:1, CPU or GPU; commits a batch of videos together
            on_nodes(EmbedShots, self.shared),
            fn_constructor_args=(self.model, self.store, self.decoded, self.analyzed, provenance),
            fn_constructor_kwargs={"perception": self.perception},
            batch_size=min(share.videos_per_commit, max(1, num_videos // 4)),
            **actor_pool(share.embed_actors, cpus=share.embed_cpus, gpus=share.embed_gpus),
        )

    # assemble: analyzed videos -> tables of videos, shots and scenes; in the driver, numbers only

    def assemble(self, sources: list[Source]) -> list[Part]:
        """Filter and cluster; stage the videos, shots and scenes tables."""
        on_part = partial(self.on_progress, "assemble")
        phase = AssemblePhase(
            self.config, self.store, self.analyzed, self.aesthetics, self.run_id, on_part
        )
        return phase.run([source.source_id for source in sources])

    # caption: scene -> a text for each of its shots

    def caption(self, parts: list[Part]) -> int:
        """Caption the staged scenes that have no final answer yet; return how many there were."""
        provenance = self._provenance(self.captioned, "captioning")
        phase = CaptionPhase(self.config, self.store, self.captioned, provenance)
        scenes = phase.pending(parts)
        total = sum(len(row["scene_ids"]) for row in scenes)
        if scenes:
            estimate = phase.estimate(scenes)
            responses = self._engine_responses(phase, scenes) if phase.asks_engine() else {}
            self._drain("caption", self._caption(phase, scenes, responses), total)
            if estimate is not None:
                phase.record(total, estimate)
        return total

    def _caption(
        self, phase: CaptionPhase, scenes: list[ScenePart], responses: Mapping[str, EngineResponse]
    ) -> ray.data.Dataset:
        share, config = self.share, self.config
        rows = blocks_of(scenes, SCENE_PART)  # scenes_per_commit
        return rows.map_batches(  # 1:N, CPU or GPU; commits the scenes of a row together
            on_nodes(CaptionScenes, self.shared),
            fn_constructor_args=(config.captioner, config.validation, self.model, self.store),
            fn_constructor_kwargs={
                "ledger": self.captioned,
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
        self, phase: CaptionPhase, scenes: list[ScenePart]
    ) -> dict[str, EngineResponse]:
        """Answer the questions about scenes with a model on the cluster (ray_llm), in rounds."""
        captioner, validation = self.config.captioner, self.config.validation
        engine = vllm_rounds.make_processor(captioner)
        settings = (captioner, validation, phase.prompts(), self.model, self.store)

        def ask(answers: Mapping[str, EngineResponse]) -> list[EngineResponse]:
            rows = blocks_of(scenes, SCENE_PART)
            rows = rows.map_batches(  # 1:N, CPU; what to ask next, given the answers so far
                on_nodes(vllm_rounds.OpenQuestions, self.shared),
                fn_constructor_args=(*settings, answers),
                batch_size=1,
                **actor_pool(1, cpus=1.0),
            )
            questions = rows.materialize()
            if not questions.count():  # nothing to ask: do not start the engine
                return []
            rows = engine(questions)  # 1:1, the GPUs of curation.captioner.engine
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
        provenance = self._provenance(self.shot_files, "shot_files")
        phase = CutPhase(self.store, self.shot_files, provenance)
        videos = phase.pending(parts)
        if videos:
            num_actors = max_decoding_actors(self.share, len(videos))
            is_copy = config.cut == "copy"
            rows = blocks_of(videos, PENDING_CUT)  # one row per video
            rows = rows.map_batches(  # 1:N, CPU; cuts in a child process, commits a video's files
                on_nodes(CutShots, self.shared),
                fn_constructor_args=(
                    is_copy,
                    config.decode,
                    self.store,
                    self.shot_files,
                    provenance,
                ),
                batch_size=1,
                **actor_pool(num_actors, cpus=self.share.analyze_cpus),
            )
            self._drain("cut", rows, sum(len(row["shot_ids"]) for row in videos))
        return phase.with_files(parts)

    # finalize: staged tables -> published tables, counts, report; in the driver

    def finalize(
        self, sources: list[Source], parts: list[Part], this_run: ThisRun
    ) -> CurationSummary:
        """Publish the tables with a report, and merge the small files of the ledgers."""
        used = (self.decoded, self.analyzed, self.captioned)
        about = {
            "run_id": self.run_id,
            "settings": {ledger.stage: ledger.settings_hash for ledger in used},
            "config": self.config.model_dump(mode="json"),
        }
        summary = finalize(self.store, parts, self.captioned, about, this_run)
        for ledger in (self.decoded, self.analyzed):
            ledger.compact(source.source_id for source in sources)
        self.captioned.compact(published_ids(self.store, "scenes"))
        self.shot_files.compact(published_ids(self.store, "shots"))
        return summary

    def _provenance(self, ledger: Ledger[RowT], made_by: MadeBy) -> Provenance:
        return Provenance(ledger.settings_hash, code_version(made_by), self.run_id)

    def _drain(self, phase: str, graph: ray.data.Dataset, total: int) -> set[str]:
        """Run a graph to its end and report its progress; return the ids with status LONG."""
        done, long = 0, set()
        self.on_progress(phase, 0, total)
        batches: Iterable[pa.Table] = graph.iter_batches(batch_size=None, batch_format="pyarrow")
        for receipts in batches:
            done += receipts.num_rows
            long |= {row["id"] for row in receipts.to_pylist() if row["status"] == LONG}
            self.on_progress(phase, done, total)
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
