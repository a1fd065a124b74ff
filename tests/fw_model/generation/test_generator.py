"""A chunk is a pure function of its request; caches, modes and reuse do what the paper says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from fw_model.cache.context import target_segment
from fw_model.diffusion.guidance import SkipLayerGuidance
from fw_model.diffusion.sampler import Cancelled
from fw_model.diffusion.schedule import keyed_generator
from fw_model.errors import ConfigError, InputError
from fw_model.generation.conditioning import Conditioner
from fw_model.generation.generator import StoryChunk, StoryGenerator
from fw_model.generation.request import ChunkRequest, GenerationConfig, HistoryChunk
from fw_model.generation.story_file import StoryFile
from fw_model.loading.load import FilmModel
from tests.fw_model.small_model import small_film_model

SKIP = SkipLayerGuidance(scale=1.5, layers=(1,), above=0.3, below=0.8)


@pytest.fixture(scope="module")
def model() -> FilmModel:
    return small_film_model()


def story(**changes: object) -> StoryFile:
    fields = {
        "title": "four modes",
        "seed": 11,
        "shots": [
            {"prompt": "a red house", "num_chunks": 2},
            {"prompt": "a green field", "num_chunks": 1, "extend": [{"prompt": "a blue sky"}]},
            {"prompt": "a red house again", "num_chunks": 1},
        ],
        **changes,
    }
    return StoryFile.model_validate(fields)


def run(model: FilmModel, config: GenerationConfig | None = None) -> list[StoryChunk]:
    return list(StoryGenerator(model, config).generate_story(story()))


@pytest.fixture(scope="module")
def film(model: FilmModel) -> list[StoryChunk]:
    return run(model)


def test_a_story_walks_through_all_four_modes(film: list[StoryChunk]) -> None:
    assert [c.mode for c in film] == [
        "first_shot",
        "extend_first_shot",
        "new_shot",
        "extend_new_shot",
        "new_shot",
    ]
    assert [(c.shot, c.segment, c.chunk) for c in film] == [
        (0, 0, 0),
        (0, 0, 1),
        (1, 0, 0),
        (1, 1, 1),
        (2, 0, 0),
    ]
    assert film[3].request.prompt == "a blue sky"


def test_first_chunks_have_4n_minus_3_frames_and_later_ones_4n(film: list[StoryChunk]) -> None:
    assert [len(c.result.frames) for c in film] == [5, 8, 5, 8, 5]
    assert film[0].result.frames.shape[1:] == (32, 32, 3)


def test_any_machine_draws_the_same_chunk_from_a_request(
    model: FilmModel, film: list[StoryChunk]
) -> None:
    for chunk in film:
        cold = StoryGenerator(model).generate_chunk(chunk.request)  # no stream, no context kept
        assert torch.equal(cold.latents, chunk.result.latents)
        assert np.array_equal(cold.frames, chunk.result.frames)
        assert cold.seed == chunk.result.seed


def test_frames_chunk_by_chunk_equal_the_shot_decoded_at_once(
    model: FilmModel, film: list[StoryChunk]
) -> None:
    latents = torch.cat([c.result.latents for c in film[:2]], dim=1)[None]
    whole = model.vae.decode(latents)[0]  # [3, F, H, W]
    pixels = ((whole.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
    streamed = np.concatenate([c.result.frames for c in film[:2]])
    assert len(streamed) == len(pixels) == 13
    assert np.abs(streamed.astype(int) - pixels.astype(int)).max() <= 1


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("guidance", ["batch", "two_pass"])
def test_reused_context_equals_recomputed_context(
    model: FilmModel, film: list[StoryChunk], guidance_scale: float, guidance: str
) -> None:
    config = GenerationConfig(guidance=guidance, skip_layer_guidance=SKIP)
    without = config.model_copy(update={"reuse_context": False})
    for chunk in film:
        request = replace(chunk.request, guidance_scale=guidance_scale)
        reused = StoryGenerator(model, config).generate_chunk(request)
        recomputed = StoryGenerator(model, without).generate_chunk(request)
        assert (reused.latents - recomputed.latents).abs().max() < 1e-5


@pytest.mark.parametrize("guidance", ["batch", "two_pass"])
def test_guidance_is_left_out_below_its_noise_level(
    model: FilmModel, film: list[StoryChunk], guidance: str
) -> None:
    guided, plain = (replace(film[3].request, guidance_scale=g) for g in (4.0, 1.0))
    noise = torch.Generator().manual_seed(0)
    latents = torch.randn(1, *film[3].result.latents.shape, generator=noise)
    conditioner = Conditioner(model, GenerationConfig(guidance=guidance, guidance_above=0.5))
    ending, never = conditioner.predictor(guided, 4.0), conditioner.predictor(plain, 1.0)
    always = Conditioner(model, GenerationConfig(guidance=guidance)).predictor(guided, 4.0)
    for level, expected in ((0.9, always), (0.5, always), (0.49, never), (0.1, never)):
        sigma = torch.tensor([level])
        torch.testing.assert_close(ending(latents, sigma), expected(latents, sigma))
    high = torch.tensor([0.9])
    assert not torch.allclose(always(latents, high), never(latents, high))


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_skip_layer_guidance_leads_away_from_fewer_layers_between_two_noise_levels(
    model: FilmModel, film: list[StoryChunk], guidance_scale: float
) -> None:
    request = film[3].request
    latents = torch.randn(1, *film[3].result.latents.shape, generator=keyed_generator(0, "skip"))
    conditioner = Conditioner(model, GenerationConfig())
    plain = conditioner.predictor(request, guidance_scale)
    conditional = conditioner.predictor(request, 1.0)
    skipping = Conditioner(model, GenerationConfig(skip_layer_guidance=SKIP))
    sharpened = skipping.predictor(request, guidance_scale)
    keyframes, history = conditioner._context(request)
    for level in (0.9, 0.75, 0.5, 0.35, 0.2):
        sigma = torch.tensor([level])
        expected = plain(latents, sigma)
        if 0.3 <= level <= 0.8:
            target = target_segment(latents, sigma, conditioner._text(request.prompt))
            weaker = model.backbone.forward([*keyframes, *history, target], skip_layers=(1,))
            expected = expected + 1.5 * (conditional(latents, sigma) - weaker)
        torch.testing.assert_close(sharpened(latents, sigma), expected, atol=1e-5, rtol=1e-5)


def test_layers_to_skip_must_be_there(model: FilmModel) -> None:
    wrong = SkipLayerGuidance(scale=1, layers=(1, 2))
    with pytest.raises(ConfigError, match=r"names \[2\], but the transformer has layers 0 to 1"):
        Conditioner(model, GenerationConfig(skip_layer_guidance=wrong))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"scale": 1}, "layers"), ({"scale": 1, "layers": [0], "above": 0.5, "below": 0.5}, "less")],
)
def test_skip_layer_guidance_that_means_nothing_is_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SkipLayerGuidance(**settings)


def test_full_visibility_generates_too() -> None:
    chunks = run(small_film_model("full"))
    assert len(chunks) == 5


def test_every_part_of_a_request_matters(model: FilmModel, film: list[StoryChunk]) -> None:
    base = film[3].request
    other_history = HistoryChunk(base.history[0].latents + 0.5, base.history[0].prompt)
    changes = [
        {"story_seed": 12},
        {"shot": 9},
        {"version": 1},
        {"prompt": "a red sky"},
        {"negative_prompt": "fog"},
        {"history": (other_history,)},
        {"keyframes": base.keyframes[:0]},
        {"num_inference_steps": 5},
        {"guidance_scale": 2.0},
    ]
    drawn = [
        StoryGenerator(model).generate_chunk(replace(base, **change)).latents
        for change in [{}, *changes]
    ]
    for i, left in enumerate(drawn):
        for right in drawn[i + 1 :]:
            assert not torch.equal(left, right)


def test_retrieval_finds_the_keyframe_that_the_prompt_names(model: FilmModel) -> None:
    generator = StoryGenerator(model)
    bank = [
        generator.reference_keyframe(
            np.full((8, 8, 3), colour, dtype=np.uint8), name=name, pinned=False
        )
        for name, colour in [("red", (250, 0, 0)), ("green", (0, 250, 0)), ("blue", (0, 0, 250))]
    ]
    found = generator.retrieve("a blue sky", bank)
    assert found[0].keyframe.name == "blue" and len(found) == 3
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)
    assert len(generator.retrieve("a blue sky", bank, top_k=1)) == 1


def test_a_shot_does_not_retrieve_its_own_keyframes(film: list[StoryChunk]) -> None:
    assert {k.keyframe.shot for k in film[3].request.keyframes} == {0}
    assert {k.keyframe.shot for k in film[4].request.keyframes} <= {0, 1}


def test_an_injected_reference_is_read_from_its_shot_on(model: FilmModel, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (250, 0, 0)).save(tmp_path / "hero.png")
    shots = [
        {"prompt": "a red house", "references": [{"image": "hero.png", "name": "hero"}]},
        {"prompt": "a green field"},
    ]
    chunks = list(StoryGenerator(model).generate_story(story(shots=shots), base_dir=tmp_path))
    assert [c.mode for c in chunks] == ["new_shot", "new_shot"]
    first, later = (
        {k.keyframe.name: k.keyframe.pinned for k in c.request.keyframes} for c in chunks
    )
    assert first == {"hero": True}
    assert later["hero"] is False  # read by score, as the server does


def test_a_reference_that_is_no_image_stops_before_anything_is_generated(
    model: FilmModel, tmp_path: Path
) -> None:
    (tmp_path / "hero.png").write_text("not a picture")
    shots = [
        {"prompt": "a red house"},
        {"prompt": "again", "references": [{"image": "hero.png", "name": "hero"}]},
    ]
    with pytest.raises(InputError, match=r"hero\.png"):
        next(StoryGenerator(model).generate_story(story(shots=shots), base_dir=tmp_path))


def test_cancelling_stops_between_two_steps(model: FilmModel, film: list[StoryChunk]) -> None:
    steps: list[int] = []
    with pytest.raises(Cancelled):
        StoryGenerator(model).generate_chunk(
            film[0].request,
            on_step=lambda done, _: steps.append(done),
            should_cancel=lambda: len(steps) >= 2,
        )
    assert steps == [1, 2]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"prompt": " "}, "1 to 4000"), ({"prompt": "x" * 4001}, "4001"), ({"width": 40}, "40x32")],
)
def test_a_request_that_cannot_run_is_refused(
    model: FilmModel, film: list[StoryChunk], change: dict, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        StoryGenerator(model).generate_chunk(replace(film[0].request, **change))


def test_an_outside_video_can_be_extended(model: FilmModel) -> None:
    generator = StoryGenerator(model)
    pixels = np.random.default_rng(0).integers(0, 255, (11, 20, 20, 3), dtype=np.uint8)
    history = generator.history_of_video(pixels, "a street")
    assert history.latents.shape == (4, 3, 4, 4)  # 9 of the 11 frames
    request = ChunkRequest(0, 0, 1, "a street", 32, 32, history=(history,))
    assert request.mode == "extend_first_shot"
    assert len(generator.generate_chunk(request).frames) == 8
