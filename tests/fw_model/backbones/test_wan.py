"""The Wan adapter against the stock diffusers transformer, and its caches against recomputation."""

from dataclasses import replace

import pytest
import torch
from diffusers import WanTransformer3DModel

from fw_model.backbones.base import ContextKV
from fw_model.backbones.rope import rotary_table, token_positions
from fw_model.backbones.wan import WanBackbone
from fw_model.backbones.wan_depth import SILENT_AT_FIRST
from fw_model.cache.config import CacheConfig
from fw_model.cache.context import ContextLatents, TokenSegment, context_segments, target_segment
from fw_model.errors import CheckpointError, InputError

TOLERANCE = 1e-5


def small_backbone(visibility: str = "prefix", seed: int = 0) -> WanBackbone:
    torch.manual_seed(seed)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=3,
    )
    return WanBackbone(transformer, CacheConfig(chunk_latents=3, visibility=visibility)).eval()


@pytest.fixture(scope="module")
def backbone() -> WanBackbone:
    return small_backbone()


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_target(batch: int = 2, sigma: float = 0.7, size: tuple[int, int] = (8, 8)) -> TokenSegment:
    text = draw(batch, 7, 16, seed=5)
    return target_segment(draw(batch, 4, 3, *size), torch.full((batch,), sigma), text)


def make_context(
    num_keyframes: int, num_history: int, batch: int = 2, size: tuple[int, int] = (8, 8)
) -> list[TokenSegment]:
    keyframes = [
        ContextLatents(
            draw(batch, 4, 1, *size, seed=10 + k),
            torch.full((batch,), 0.1 + 0.05 * k),
            draw(batch, 7, 16, seed=20 + k),
        )
        for k in range(num_keyframes)
    ]
    history = None
    if num_history:
        history = ContextLatents(
            draw(batch, 4, num_history, *size, seed=30),
            torch.full((batch,), 0.03),
            draw(batch, 7, 16, seed=31),
        )
    return context_segments(CacheConfig(chunk_latents=3), keyframes=keyframes, history=history)


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_with_both_caches_empty_the_adapter_equals_the_stock_forward(
    backbone: WanBackbone, size: tuple[int, int]
) -> None:
    target = make_target(size=size)
    stock = WanTransformer3DModel(**dict(backbone.transformer.config))
    stock.load_state_dict(backbone.transformer.state_dict())
    with torch.no_grad():
        expected = stock(target.latents, target.sigma * 1000, target.text, return_dict=False)[0]
        assert (backbone([target]) - expected).abs().max() < TOLERANCE
        assert (backbone.predict(target, None) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ("num_layers", "new"), [(3, []), (4, [3]), (5, [2, 4]), (6, [1, 3, 5]), (8, [1, 3, 4, 6, 7])]
)
def test_a_deeper_transformer_predicts_what_it_did(num_layers: int, new: list[int]) -> None:
    shallow, deep = small_backbone(seed=3), small_backbone(seed=3)
    deep.deepen(num_layers)
    target, context = make_target(), make_context(2, 4)
    with torch.no_grad():
        expected = shallow([*context, target])
        assert torch.equal(deep([*context, target]), expected)
        kept = deep.encode_context(context)
        assert (deep.predict(target, kept) - expected).abs().max() < TOLERANCE
    deep([*context, target]).square().sum().backward()
    blocks = deep.transformer.blocks
    silent = [i for i, b in enumerate(blocks) if not b.ffn.net[2].weight.any()]
    assert len(blocks) == deep.transformer.config.num_layers == num_layers and silent == new
    for name in SILENT_AT_FIRST:
        assert all(blocks[i].get_submodule(name).weight.grad.any() for i in new)


def test_state_dict_keys_of_the_stock_module_are_unchanged(backbone: WanBackbone) -> None:
    stock = WanTransformer3DModel(**dict(backbone.transformer.config))
    assert list(backbone.transformer.state_dict()) == list(stock.state_dict())
    new = [n for n, _ in backbone.named_parameters() if not n.startswith("transformer.")]
    assert {n.split(".")[0] for n in new} == {"context_patch"}


@pytest.mark.parametrize(
    ("num_keyframes", "num_history"), [(0, 1), (0, 2), (0, 5), (3, 0), (1, 4), (3, 19)]
)
def test_cached_context_equals_recomputed_context(
    backbone: WanBackbone, num_keyframes: int, num_history: int
) -> None:
    context, target = make_context(num_keyframes, num_history), make_target()
    with torch.no_grad():
        recomputed = backbone([*context, target])
        keyframes = [s for s in context if s.role == "keyframe"]
        history = [s for s in context if s.role == "temporal"]
        kv = backbone.encode_context(keyframes) if keyframes else None
        if history:
            kv = backbone.encode_context(history, past=kv)
        text_kv: dict = {}
        for _ in range(2):  # the second pass reads the text's keys and values from the first
            cached = backbone.predict(target, kv, text_kv)
            assert (cached - recomputed).abs().max() < TOLERANCE


@pytest.mark.parametrize("skipped", [(0,), (1,), (0, 1)])
def test_only_the_targets_tokens_skip_layers(
    backbone: WanBackbone, skipped: tuple[int, ...]
) -> None:
    context, target = make_context(2, 3), make_target()
    with torch.no_grad():
        recomputed = backbone([*context, target], skip_layers=skipped)
        cached = backbone.predict(target, backbone.encode_context(context), skip_layers=skipped)
        assert (cached - recomputed).abs().max() < TOLERANCE
        assert (backbone([*context, target]) - recomputed).abs().max() > 100 * TOLERANCE


def test_skipping_a_layer_is_a_transformer_without_it(backbone: WanBackbone) -> None:
    stock = WanTransformer3DModel(**dict(backbone.transformer.config))
    stock.load_state_dict(backbone.transformer.state_dict())
    del stock.blocks[1]
    target = make_target()
    with torch.no_grad():
        expected = stock(target.latents, target.sigma * 1000, target.text, return_dict=False)[0]
        assert (backbone([target], skip_layers=(1,)) - expected).abs().max() < TOLERANCE


def test_one_context_serves_a_batch_of_targets(backbone: WanBackbone) -> None:
    context, target = make_context(2, 3, batch=1), make_target(batch=2)
    with torch.no_grad():
        kv = backbone.encode_context(context)
        both = backbone.predict(target, kv)
        for i in range(2):
            one = replace(
                target,
                latents=target.latents[i : i + 1],
                sigma=target.sigma[i : i + 1],
                text=target.text[i : i + 1],
            )
            assert (backbone([*context, one]) - both[i : i + 1]).abs().max() < TOLERANCE


def test_gradients_flow_through_a_repeated_context_as_through_one_pass() -> None:
    model = small_backbone(seed=3)
    context, target = make_context(2, 3), make_target()
    model([*context, target]).square().mean().backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    kv = model.encode_context(context).repeat(1)
    model.predict(target, kv).square().mean().backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert max((found[n] - expected[n]).abs().max() for n in expected) < TOLERANCE


def test_gradient_checkpointing_changes_no_gradient() -> None:
    plain, checkpointed = small_backbone(seed=4), small_backbone(seed=4)
    checkpointed.transformer.enable_gradient_checkpointing()
    for model in (plain, checkpointed):
        model.train()
        model([*make_context(2, 5), make_target()]).square().mean().backward()
    for (name, p), (_, q) in zip(
        plain.named_parameters(), checkpointed.named_parameters(), strict=True
    ):
        assert p.grad is not None and q.grad is not None, name
        assert torch.allclose(p.grad, q.grad, atol=1e-6), name


def test_context_never_sees_noise(backbone: WanBackbone) -> None:
    context = make_context(2, 3)
    with torch.no_grad():
        alone = backbone.encode_context(context)
        segments = [*context, make_target()]
        packed = backbone._pack(segments, backbone._spans(segments))
        hidden = packed.hidden
        for layer, block in enumerate(backbone.transformer.blocks):
            own: list = []
            hidden = backbone._block(block, hidden, packed, packed.plan(layer, own))
            for together, by_itself in zip(own[0], alone.layers[layer], strict=True):
                assert (together[:, : alone.num_tokens] - by_itself).abs().max() < TOLERANCE


def test_full_visibility_differs_and_cannot_be_encoded_ahead() -> None:
    prefix, full = small_backbone("prefix"), small_backbone("full")
    segments = [*make_context(2, 3), make_target()]
    with torch.no_grad():
        assert (prefix(segments) - full(segments)).abs().max() > 1e-4
    with pytest.raises(InputError, match="visibility"):
        full.encode_context(segments[:-1])


def test_every_cache_changes_the_prediction(backbone: WanBackbone) -> None:
    target = make_target()
    with torch.no_grad():
        outputs = [
            backbone([*make_context(*counts), target])
            for counts in [(0, 0), (0, 3), (3, 0), (3, 3)]
        ]
    for i, left in enumerate(outputs):
        for right in outputs[i + 1 :]:
            assert (left - right).abs().max() > 1e-4


def test_a_coarse_embedding_gives_a_constant_input_the_same_token(backbone: WanBackbone) -> None:
    constant = draw(1, 4, 1, 1, 1).expand(1, 4, 2, 8, 8)
    with torch.no_grad():
        fine = backbone.transformer.patch_embedding(constant)[0, :, 0, 0, 0]
        for conv in backbone.context_patch.values():
            assert (conv(constant)[0, :, 0, 0, 0] - fine).abs().max() < TOLERANCE


def test_rotary_angles_at_integer_positions_equal_the_stock_table(backbone: WanBackbone) -> None:
    stock = backbone.transformer.rope(torch.zeros(1, 4, 5, 8, 12))
    ours = rotary_table(token_positions((5, 4, 6), (1, 2, 2), (1, 2, 2), 0), 24)
    assert torch.equal(ours[0], stock[0]) and torch.equal(ours[1], stock[1])


def test_a_coarse_token_sits_at_the_centre_of_what_it_covers() -> None:
    fine = token_positions((2, 4, 4), (1, 2, 2), (1, 2, 2), -2)
    coarse = token_positions((1, 1, 1), (2, 8, 8), (1, 2, 2), -2)
    assert torch.allclose(coarse[0], fine.mean(0))


def test_a_saved_adapter_loads_again_and_stock_diffusers_reads_it(tmp_path) -> None:
    model = small_backbone(seed=7)
    with torch.no_grad():
        model.context_patch["1x4x4"].weight.add_(1.0)
    model.save(tmp_path)
    again = WanBackbone.load(tmp_path, model.cache, torch.float32).eval()
    segments = [*make_context(1, 4), make_target()]
    with torch.no_grad():
        assert torch.equal(again(segments), model(segments))
    again.save(tmp_path / "moved")
    assert str(tmp_path) not in (tmp_path / "moved/transformer/config.json").read_text()
    stock = WanTransformer3DModel.from_pretrained(str(tmp_path / "transformer"))
    for name, value in stock.state_dict().items():
        assert torch.equal(value, model.transformer.state_dict()[name])


def test_repeat_keeps_each_sample_beside_its_copies() -> None:
    key = torch.arange(2.0).reshape(2, 1, 1, 1)
    repeated = ContextKV(((key, key),)).repeat(3)
    assert repeated.layers[0][0].flatten().tolist() == [0, 0, 0, 1, 1, 1]


def test_two_more_input_channels_are_told_each_cells_place() -> None:
    architecture = {
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": 6,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 64,
        "num_layers": 2,
    }
    model = WanBackbone.from_scratch(architecture, CacheConfig(), seed=0).eval()
    torch.nn.init.normal_(model.transformer.proj_out.weight)
    target = make_target(size=(4, 8))
    rows = torch.tensor([-0.75, -0.25, 0.25, 0.75]).view(1, 1, 1, 4, 1).expand(2, 1, 3, 4, 8)
    columns = (torch.arange(8) * 0.25 - 0.875).view(1, 1, 1, 1, 8).expand(2, 1, 3, 4, 8)
    told = torch.cat([target.latents, rows, columns], dim=1)
    with torch.no_grad():
        stock = WanTransformer3DModel(**dict(model.transformer.config))
        stock.load_state_dict(model.transformer.state_dict())
        expected = stock(told, target.sigma * 1000, target.text, return_dict=False)[0]
        assert (model([target]) - expected).abs().max() < TOLERANCE


def test_an_image_to_video_transformer_is_refused() -> None:
    architecture = {"num_attention_heads": 1, "attention_head_dim": 24, "num_layers": 1}
    with pytest.raises(CheckpointError, match="image-to-video"):
        WanBackbone.from_scratch(
            {**architecture, "in_channels": 36, "out_channels": 16}, CacheConfig(), seed=0
        )


def test_new_weights_depend_on_the_seed_alone() -> None:
    architecture = {"num_attention_heads": 1, "attention_head_dim": 24, "num_layers": 1}
    first, again, other = (
        WanBackbone.from_scratch(architecture, CacheConfig(), seed=s).state_dict()
        for s in (1, 1, 2)
    )
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(
        first["transformer.blocks.0.ffn.net.2.weight"],
        other["transformer.blocks.0.ffn.net.2.weight"],
    )
