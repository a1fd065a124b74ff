"""CLIP rank and entity consistency, against cases worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from fw_model.errors import ConfigError
from fw_model.schemas.curated import CAPTIONS
from pipelines.curation.captioners.base import (
    Entity,
    Prompts,
    SceneCaption,
    SceneView,
    ShotCaption,
    ShotView,
    check_captioner,
)
from pipelines.curation.captioners.questions import load_prompts
from pipelines.curation.captioning.checks import check_rank, complaints, too_many_people
from pipelines.curation.captioning.cost_estimate import estimate_captions
from pipelines.curation.captioning.entity_consistency import Consistency, measure_consistency
from pipelines.curation.config import (
    CaptionerConfig,
    ValidationConfig,
)
from pipelines.curation.ledger.tables import write_part
from pipelines.curation.report.summary import count_tables
from pipelines.storage.store import Store


def view(tmp_path, pictures, num_keyframes=1):
    """A scene whose shots have these embeddings."""
    names = tuple(f"k{i}" for i in range(num_keyframes))
    shots = tuple(
        ShotView(f"s{i}", 0, 9, 1.0, 1.0, 90.0, None if p is None else np.float32(p),
                 (0,) * num_keyframes, names, names)
        for i, p in enumerate(pictures)
    )  # fmt: skip
    return SceneView("scene", "video", "a.mp4", shots, Store(str(tmp_path)))


def caption(*casts, declared=("e1", "e2", "e3")):
    """A caption whose shots name these entities."""
    shots = tuple(
        ShotCaption(f"s{i}", f"text {i} of it", tuple(cast)) for i, cast in enumerate(casts)
    )
    return SceneCaption(shots, tuple(Entity(e, e) for e in declared))


# Cosines: 0 and 1 are 0.96 alike, 2 is 0.6 and 0.8 like them.
ALIKE = ((1.0, 0.0), (0.96, 0.28), (0.6, 0.8))


@pytest.mark.parametrize(
    ("casts", "recurrences", "same"),
    [
        ((["e1"], ["e1"], ["e1"]), 1, 1),  # only shots 0 and 1 show the same
        ((["e1"], ["e2"], ["e1"]), 1, 0),  # she has another id in the next shot
        ((["e1", "e2"], ["e2"], []), 1, 1),  # a close-up of one of two
        ((["e1", "e2"], ["e1", "e3"], []), 2, 1),
        ((["e1", "e2"], [], ["e1"]), 0, 0),  # nobody is named, so nobody is misnamed
    ],
)
def test_a_recurring_character_should_keep_its_id(tmp_path, casts, recurrences, same):
    found = measure_consistency(caption(*casts), view(tmp_path, ALIKE), 0.9)
    assert (found.recurrences, found.recurrences_same_id) == (recurrences, same)


def test_a_lower_threshold_compares_more_pairs(tmp_path):
    found = measure_consistency(caption(["e1"], ["e1"], ["e2"]), view(tmp_path, ALIKE), 0.7)
    assert (found.recurrences, found.recurrences_same_id) == (2, 1)  # pairs 0-1 and 1-2


def test_a_reference_resolves_if_the_scene_declares_it(tmp_path):
    found = measure_consistency(
        caption(["e1", "e9"], ["e1"], ["e8"], declared=("e1",)), view(tmp_path, ALIKE), 0.9
    )
    assert (found.references, found.references_resolved) == (4, 2)


def test_a_shot_without_pictures_and_a_caption_without_shots_count_nothing(tmp_path):
    scene = view(tmp_path, (None, None, ALIKE[2]))
    assert measure_consistency(caption(["e1"], ["e1"], ["e1"]), scene, 0.9).recurrences == 0
    assert measure_consistency(SceneCaption(), view(tmp_path, ALIKE), 0.9) == Consistency()


def test_the_summary_adds_the_counts_of_all_scenes(tmp_path):
    store = Store(str(tmp_path))
    counts = [(4, 3, 2, 1), (6, 6, 0, 0), (0, 0, 2, 2)]
    rows = [
        {
            "scene_id": f"{i}",
            "references": references,
            "references_resolved": resolved,
            "recurrences": recurrences,
            "recurrences_same_id": same,
        }
        for i, (references, resolved, recurrences, same) in enumerate(counts)
    ]
    assert set(rows[0]) <= set(CAPTIONS.names)
    counted = count_tables(store, [write_part(store, "captions", 0, rows, "run")]).summary()
    assert counted.entity_consistency == {
        "references": 10,
        "references_resolved": 9,
        "recurrences": 4,
        "recurrences_same_id": 3,
        "resolved_share": pytest.approx(0.9),
        "same_id_share": pytest.approx(0.75),
    }


def test_shares_of_nothing_are_not_numbers(tmp_path):
    shares = count_tables(Store(str(tmp_path)), []).summary().entity_consistency
    assert (shares["resolved_share"], shares["same_id_share"]) == (None, None)


def rank(tmp_path, pictures, texts, margin=0.02):
    config = ValidationConfig(min_own_rank_margin=margin)
    return complaints(
        check_rank(
            caption(["e1"], ["e1"]), view(tmp_path, pictures), config, lambda t: np.float32(texts)
        )
    )


def test_a_text_that_suits_a_sibling_more_is_named_and_quoted(tmp_path):
    apart = ((1.0, 0.0), (0.0, 1.0))
    assert rank(tmp_path, apart, ((0.8, 0.6), (0.6, 0.8))) == []
    (found,) = rank(tmp_path, apart, ((0.8, 0.6), (0.8, 0.6)))  # both texts are of shot 0
    assert "shot 2 'text 1 of it'" in found and "shot 1 " not in found


def test_a_text_may_fall_behind_by_the_margin(tmp_path):
    apart, texts = ((1.0, 0.0), (0.0, 1.0)), ((0.8, 0.6), (0.71, 0.7042))
    assert rank(tmp_path, apart, texts, margin=0.02) == []
    assert rank(tmp_path, apart, texts, margin=0.001) != []


def test_shots_that_look_the_same_are_no_rivals(tmp_path):
    swapped = ((0.96, 0.28), (1.0, 0.0))
    assert rank(tmp_path, ALIKE[:2], swapped, margin=0.0) == []


@pytest.mark.parametrize(
    ("kinds", "casts", "crowded"),
    [
        (("person", "person", "person"), (["e1", "e2"], ["e3"]), False),  # two at once
        (("person", "Person ", "person"), (["e1"], ["e1", "e2", "e3"]), True),
        (("person", "animal", "thing"), (["e1", "e2", "e3"],), False),
        (("", "", ""), (["e1", "e2", "e3"],), False),  # nobody said what they are
    ],
)
def test_people_are_counted_shot_by_shot(kinds, casts, crowded):
    said = caption(*casts)
    entities = [replace(e, kind=kind) for e, kind in zip(said.entities, kinds, strict=True)]
    said = replace(said, entities=tuple(entities))
    found = too_many_people(said, ValidationConfig(max_people=2))
    assert (found is not None) == crowded
    assert found is None or "shot 2 shows 3 people" in found
    assert too_many_people(said, ValidationConfig(max_people=None)) is None


def test_a_captioner_that_cannot_judge_says_so_before_the_run():
    with pytest.raises(ConfigError, match="cannot judge"):
        check_captioner(CaptionerConfig(kind="offline"), ValidationConfig(verdict=True))
    for kind in ("openai", "ray_llm"):
        check_captioner(CaptionerConfig(kind=kind), ValidationConfig(verdict=True))


PRICED = CaptionerConfig(
    kind="openai",
    tokens_per_image=100,
    max_output_tokens=1000,
    usd_per_million_input_tokens=1.0,
    usd_per_million_output_tokens=10.0,
)


def test_the_estimate_counts_scenes_that_must_be_asked(tmp_path):
    scene = view(tmp_path, ALIKE, num_keyframes=2)
    found = estimate_captions([(scene, False), (scene, False), (scene, True)], PRICED,
                             ValidationConfig(refinements=1))  # fmt: skip
    assert (found.scenes, found.scenes_answered) == (2, 1)
    assert (found.requests_low, found.requests_high) == (2, 4)
    # 60 + 40 for each of 3 shots at least, 1000 each at most
    assert (found.output_tokens_low, found.output_tokens_high) == (2 * 180, 4 * 1000)
    assert found.input_tokens_low > 2 * 3 * 2 * 100
    assert found.usd_low == pytest.approx(
        (found.input_tokens_low * 1.0 + found.output_tokens_low * 10.0) / 1e6
    )
    assert found.usd_high == pytest.approx(
        (found.input_tokens_high * 1.0 + found.output_tokens_high * 10.0) / 1e6
    )
    assert "may not be enough" in found.sentence(0.0) and "enough" not in found.sentence(9.0)


def test_a_verdict_doubles_the_lowest_price(tmp_path):
    scene = view(tmp_path, ALIKE)
    plain = estimate_captions([(scene, False)], PRICED, ValidationConfig())
    judged = estimate_captions([(scene, False)], PRICED, ValidationConfig(verdict=True))
    assert (plain.requests_low, judged.requests_low) == (1, 2)
    assert 1.8 < judged.usd_low / plain.usd_low < 2.2


def test_prompts_of_ones_own_are_read_once_and_a_missing_file_is_named(tmp_path):
    (tmp_path / "own.md").write_text("Describe.")
    own = CaptionerConfig(kind="openai", prompt=str(tmp_path / "own.md"))
    assert load_prompts(own, ValidationConfig()) == Prompts("Describe.")
    judged = load_prompts(own, ValidationConfig(verdict=True))
    assert (judged.caption, "fits" in judged.verdict) == ("Describe.", True)
    with pytest.raises(ConfigError, match=r"gone\.md"):
        load_prompts(CaptionerConfig(prompt=str(tmp_path / "gone.md")), ValidationConfig())
