"""Curation: source videos to captioned multi-shot scenes, on Ray Data.

Four phases, each resumable by itself. A fan-out never crosses a commit: analyze commits a video
with all its shots, caption commits a scene. What is done is read from the ledger, so a run that was
killed is finished by starting it again.

    analyze    video -> shots, keyframes, measurements -> embeddings
    caption    scene -> text for each of its shots
    cut        shot -> clip, only if asked for
    finalize   check, publish the tables, count, report
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.data

from fw_model.errors import ConfigError
from fw_model.files.lock import only_one
from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import part_fingerprint
from fw_model.schemas.curated import ANALYZED_VIDEOS
from pipelines.curation.analysis.analyze import ANALYZE_VERSION, LONG
from pipelines.curation.analysis.operators import PENDING_VIDEO, AnalyzeVideos, EmbedShots
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.assembly.aesthetic import ShotAesthetics
from pipelines.curation.assembly.phase import AssemblePhase
from pipelines.curation.blocks import blocks_of
from pipelines.curation.captioners.base import check_captioner
from pipelines.curation.captioning.phase import CaptionPhase, caption_ledger
from pipelines.curation.captioning.shared_budget import recorded_runs, spent_before
from pipelines.curation.config import CurationConfig
from pipelines.curation.detectors.base import check_detector
from pipelines.curation.ledger.ledger import Entry, Ledger, config_hash
from pipelines.curation.ledger.receipts import RECEIPT, Provenance, code_version
from pipelines.curation.ledger.tables import Part, check_unique, publish, published_ids, write_part
from pipelines.curation.report.page import write_report
from pipelines.curation.report.prometheus import CurationSeries
from pipelines.curation.report.summary import SUMMARY, CurationSummary, check_totals, count_tables
from pipelines.curation.shot_files.phase import CutPhase, cut_ledger
from pipelines.curation.sources import Source, list_sources
from pipelines.storage.store import Store

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""


def run_curation(
    config: CurationConfig, model: ModelConfig, *, on_progress: Progress | None = None
) -> CurationSummary:
    """Curate `config.source` into `config.output`; what was done before is not done again.

    Raises ConfigError for a detector that does not work, InputError for a source without videos,
    StorageError if the output cannot be written; a video that cannot be used is a quarantined row,
    not an error.
    """
    tell = on_progress or _log_progress
    series = CurationSeries()

    def report(phase: str, done: int, total: int) -> None:
        tell(phase, done, total)
        series.on_progress(phase, done, total)

    curation = _Curation(config, model, report)
    with _alone_in(config.output):
        summary = curation.run()
    series.on_summary(summary)
    return summary


@contextmanager
def _alone_in(output: str) -> Iterator[None]:
    """Keep other curations out of a local output: two would spend one budget twice.

    A bucket has no lock: there it is the scheduler's duty to start one at a time.
    """
    if "://" in output or not output:
        yield
        return
    with only_one("curation", Path(output)):
        yield


class _Curation:
    """One run: its ledgers, and the three phases over them."""

    def __init__(self, config: CurationConfig, model: ModelConfig, on_progress: Progress) -> None:
        if not config.output:
            raise ConfigError("No output was given; name the folder to write to.")
        check_detector(config.detector.kind, config.detector.options)
        check_captioner(config.captioner, config.validation)
        self.aesthetics = ShotAesthetics.load(config.filters)
        self.config, self.model, self.on_progress = config, model, on_progress
        self.run_id = uuid.uuid4().hex[:12]
        self.store = Store(config.output)
        limits = config.decode
        decoded = config_hash(
            ANALYZE_VERSION,
            [limits.max_pixels, limits.max_error_ratio, limits.max_missing_ratio],
            config.detector,
            config.keyframes,
        )
        embedder = part_fingerprint(model, ("clip",))
        analyzed = config_hash(decoded, embedder)
        self.decoded = Ledger(self.store, "decoded", decoded, ANALYZED_VIDEOS, "source_id")
        self.analyzed = Ledger(self.store, "analyzed", analyzed, ANALYZED_VIDEOS, "source_id")
        self.captioned = caption_ledger(self.store, config, analyzed)
        self.clips = cut_ledger(self.store, config, decoded)

    def run(self) -> CurationSummary:
        _set_up_ray_data()
        seconds: dict[str, float] = {}
        with _timed(seconds, "list"):
            sources = list_sources(self.config)
        with _timed(seconds, "analyze"):
            num_analyzed = self.analyze(sources)
        with _timed(seconds, "assemble"):
            parts = self.assemble(sources)
        with _timed(seconds, "caption"):
            num_captioned = self.caption(parts)
        with _timed(seconds, "cut"):
            parts = self.cut(parts)
        with _timed(seconds, "finalize"):
            return self.finalize(sources, parts, num_analyzed, num_captioned, seconds)

    def analyze(self, sources: list[Source]) -> int:
        """Decode and embed what is not yet done; return how many videos were decoded."""
        pending, half_done = self._to_analyze(sources)
        if pending:
            many = self._analyze_actors(len(pending))
            long = self._watch("analyze", pending, many, num_children=1)
            if long:  # several children a video, and so fewer videos at once
                children = self._children_of_long_videos()
                self._watch("long", long, max(1, many // children), num_children=children)
        if half_done:
            receipts = [{"id": i, "key": e.key} for i, e in half_done.items()]
            rows = blocks_of(receipts, RECEIPT, num_actors=self._analyze_actors(len(half_done)))
            self._drain("embed", self._embedded(rows, len(half_done)), len(half_done))
        return len(pending)

    def _watch(
        self, phase: str, pending: list[dict[str, Any]], num_actors: int, *, num_children: int
    ) -> list[dict[str, Any]]:
        """Decode and embed `pending`; return those that are too long for one child."""
        rows = blocks_of(pending, PENDING_VIDEO, num_actors=num_actors)  # a row is a video
        rows = rows.map_batches(  # 1:1, decodes in child processes, commits each video
            AnalyzeVideos,
            fn_constructor_args=(
                self._analyze_settings(),
                self.store,
                self.decoded,
                self._provenance(self.decoded),
            ),
            fn_constructor_kwargs={"num_children": num_children},
            batch_size=1,
            **_actors(self._cpus_of(num_children), 0.0, num_actors),
        )
        long = self._drain(phase, self._embedded(rows, len(pending)), len(pending))
        return [row for row in pending if row["source_id"] in long]

    def assemble(self, sources: list[Source]) -> list[Part]:
        """Filter and cluster; stage the videos, shots and scenes tables."""
        phase = AssemblePhase(
            self.config, self.store, self.analyzed, self.aesthetics, self.run_id, self.on_progress
        )
        return phase.run([source.source_id for source in sources])

    def caption(self, parts: list[Part]) -> int:
        """Caption the staged scenes that have no lasting answer; return how many there were."""
        provenance = self._provenance(self.captioned)
        phase = CaptionPhase(
            self.config, self.model, self.store, self.captioned, provenance, self.on_progress
        )
        return phase.run(parts)

    def cut(self, parts: list[Part]) -> list[Part]:
        """Cut the kept shots into clips, if asked to; return the parts with them."""
        provenance = self._provenance(self.clips)
        phase = CutPhase(self.config, self.store, self.clips, provenance, self.on_progress)
        return phase.run(parts)

    def finalize(
        self,
        sources: list[Source],
        parts: list[Part],
        num_analyzed: int,
        num_captioned: int,
        seconds: dict[str, float],
    ) -> CurationSummary:
        """Check the tables, publish them, count them and write the report."""
        entries = self.captioned.entries(())
        for place, part in enumerate([p for p in parts if p.table == "scenes"]):
            ids = self.store.read_table(part.key, ["scene_id"])["scene_id"].to_pylist()
            rows = self.captioned.read({i: entries[i] for i in ids if i in entries})
            parts = [*parts, write_part(self.store, "captions", place, rows, self.run_id)]
        duplicates = check_unique(self.store, parts)
        summary = CurationSummary(
            **count_tables(self.store, parts),
            duplicates=duplicates,
            cost_usd=spent_before(self.store),
            caption_runs=recorded_runs(self.store),
            videos_analyzed_now=num_analyzed,
            scenes_captioned_now=num_captioned,
            seconds=seconds,
        )
        check_totals(summary, len(sources))
        about = {
            "run_id": self.run_id,
            "settings": {
                ledger.stage: ledger.settings_hash
                for ledger in (self.decoded, self.analyzed, self.captioned)
            },
            "config": self.config.model_dump(mode="json"),
        }
        publish(self.store, parts, self.run_id, about)
        for ledger in (self.decoded, self.analyzed):
            ledger.compact(source.source_id for source in sources)
        self.captioned.compact(published_ids(self.store, "scenes"))
        self.clips.compact(published_ids(self.store, "shots"))
        self.store.write(SUMMARY, summary.to_json().encode())
        write_report(self.config.output)
        return summary

    def _embedded(self, rows: ray.data.Dataset, num_videos: int) -> ray.data.Dataset:
        """Embed decoded videos, a row a receipt of one; receipts come out."""
        share = self.config.resources
        return rows.map_batches(  # 1:1, commits a batch together
            EmbedShots,
            fn_constructor_args=(
                self.model,
                self.store,
                self.decoded,
                self.analyzed,
                self._provenance(self.analyzed),
            ),
            batch_size=min(share.videos_per_commit, max(1, num_videos // 4)),
            **_actors(share.embed_cpus, share.embed_gpus, share.embed_actors),
        )

    def _to_analyze(self, sources: list[Source]) -> tuple[list[dict[str, Any]], dict[str, Entry]]:
        """Return the videos to decode, and those decoded before but not embedded."""
        decoded = self.decoded.entries(["status", "reason"])
        analyzed = self.analyzed.entries(())
        retry = set(self.config.retry_quarantined)
        pending: list[dict[str, Any]] = []
        half_done: dict[str, Entry] = {}
        for source in sources:
            entry = decoded.get(source.source_id)
            again = entry is not None and (
                entry.values["status"] == "quarantined"
                and (
                    not retry.isdisjoint({"all", entry.values["reason"]})
                    or source.was_away(entry.values["reason"])
                )
            )
            if entry is None or again:
                attempts = 1 + (entry.values["attempts"] if entry else 0)
                pending.append(
                    {
                        "source_id": source.source_id,
                        "uri": source.uri,
                        "size_bytes": source.size_bytes,
                        "modified": source.modified,
                        "attempts": attempts,
                    }
                )
            elif (
                source.source_id not in analyzed
                or analyzed[source.source_id].values["attempts"] < entry.values["attempts"]
            ):
                half_done[source.source_id] = entry
        return pending, half_done

    def _analyze_settings(self) -> AnalyzeSettings:
        config = self.config
        return AnalyzeSettings(
            config.decode, config.detector, config.keyframes, config_hash(config.detector)
        )

    def _analyze_actors(self, num_videos: int) -> int:
        wanted = self.config.resources.analyze_actors
        return max(1, min(wanted or int(self._cpus()), num_videos))

    def _children_of_long_videos(self) -> int:
        """Return how many children watch a long video: no more than one node has CPUs for."""
        fitting = int(self._cpus_of_a_node() / self.config.resources.analyze_cpus)
        return max(2, min(self.config.resources.children_per_long_video, fitting))

    def _cpus_of(self, num_children: int) -> float:
        """Return the CPUs that an actor of so many children reserves; they are on one node, beside
        the actor that embeds where there is but one."""
        share = self.config.resources
        free = self._cpus_of_a_node() - share.embed_cpus
        return max(share.analyze_cpus, min(share.analyze_cpus * num_children, free))

    @staticmethod
    def _cpus_of_a_node() -> float:
        """Return the CPUs of the largest node."""
        nodes = ray.nodes() if ray.is_initialized() else []
        return max([1.0, *(node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"])])

    @staticmethod
    def _cpus() -> float:
        return float(ray.cluster_resources().get("CPU", 1)) if ray.is_initialized() else 1.0

    def _provenance(self, ledger: Ledger) -> Provenance:
        return Provenance(ledger.settings_hash, code_version(), self.run_id)

    def _drain(self, phase: str, rows: ray.data.Dataset, total: int) -> set[str]:
        """Run a graph to its end, telling how far it is; return the ids that came back LONG."""
        done, long = 0, set()
        self.on_progress(phase, 0, total)
        for receipts in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
            done += receipts.num_rows
            long |= {row["id"] for row in receipts.to_pylist() if row["status"] == LONG}
            self.on_progress(phase, done, total)
        return long


def _set_up_ray_data() -> None:
    """Set what datasets take over when they are made."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # progress is told by phase, through on_progress
    # One long video is no standstill: it may be many ranges long, and each has its own deadline.
    context.execution_no_progress_timeout_s = -1


def _actors(cpus: float, gpus: float, most: int) -> dict[str, Any]:
    """Return the arguments of map_batches for a pool of up to `most` actors."""
    return {
        "batch_format": "pyarrow",
        "num_cpus": cpus,
        "num_gpus": gpus or None,
        "compute": ray.data.ActorPoolStrategy(min_size=1, max_size=most),
    }


@contextmanager
def _timed(into: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    into[name] = round(time.perf_counter() - started, 3)


def _log_progress(phase: str, done: int, total: int) -> None:
    logger.info("%s: %d of %d", phase, done, total)
