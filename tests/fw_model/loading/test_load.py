"""A model folder: what its fingerprints follow, and what a damaged one is told to be."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fw_model.errors import CheckpointError
from fw_model.loading.config import BackboneConfig, ModelConfig, PartConfig
from fw_model.loading.fingerprints import Part, encoding_parts, model_fingerprint, part_fingerprint
from fw_model.loading.folders import TINY, load_record, model_folders
from fw_model.loading.load import load_backbone, load_embedder, load_text_encoder, load_vae
from fw_model.loading.record import write_record
from fw_model.text_encoders.clip import ClipTextEncoder
from fw_model.text_encoders.umt5 import Umt5TextEncoder

WEIGHTS = "diffusion_pytorch_model.safetensors"
PLAIN = ModelConfig(device="cpu")


def copied(folder: Path, part: str) -> Path:
    return Path(shutil.copytree(TINY / part, folder / f"my-{part}"))


def learned(folder: Path, begins: str) -> Path:
    """Change the first tensor of a folder whose name begins so."""
    weights = load_file(folder / WEIGHTS)
    name = min(name for name in weights if name.startswith(begins))
    weights[name] = weights[name] + 1.0
    save_file(weights, folder / WEIGHTS)
    return folder


def with_vae(path: Path) -> ModelConfig:
    return ModelConfig(device="cpu", vae=PartConfig(kind="wan", path=str(path)))


def with_text(folder: Path) -> ModelConfig:
    return ModelConfig(device="cpu", text_encoder=PartConfig(kind="umt5", path=str(folder)))


def copied_text(folder: Path) -> Path:
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(TINY / part, folder / part)
    return folder


def test_a_vae_of_its_own_folder_changes_the_fingerprints_of_vae_and_model_only(
    tmp_path: Path,
) -> None:
    own = with_vae(learned(copied(tmp_path, "vae"), "encoder."))
    before, after = encoding_parts(PLAIN), encoding_parts(own)
    assert before["vae"] != after["vae"] and before["text_encoder"] == after["text_encoder"]
    assert model_fingerprint(own) != model_fingerprint(PLAIN)


def test_a_text_encoder_of_its_own_folder_changes_the_fingerprints(tmp_path: Path) -> None:
    weights = copied_text(tmp_path) / "text_encoder" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    own = with_text(tmp_path)
    before, after = encoding_parts(PLAIN), encoding_parts(own)
    assert before["vae"] == after["vae"] and before["text_encoder"] != after["text_encoder"]
    assert model_fingerprint(own) != model_fingerprint(PLAIN)


@pytest.mark.parametrize(
    ("begins", "counts"), [("decoder.", False), ("post_quant_conv.", False), ("encoder.", True)]
)
def test_latents_are_the_encoders_alone(begins: str, counts: bool, tmp_path: Path) -> None:
    own = with_vae(learned(copied(tmp_path, "vae"), begins))
    assert (encoding_parts(own) != encoding_parts(PLAIN)) == counts
    assert model_fingerprint(own) != model_fingerprint(PLAIN)


def test_another_width_of_the_decoder_leaves_latents_what_they_are(tmp_path: Path) -> None:
    folder = copied(tmp_path, "vae")
    config = json.loads((folder / "config.json").read_text())
    for name, same in (("decoder_base_dim", True), ("z_dim", False)):
        other = config | {name: config[name] + 1}
        (folder / "config.json").write_text(json.dumps(other))
        assert (encoding_parts(with_vae(folder)) == encoding_parts(PLAIN)) == same


def test_a_copy_of_the_same_files_has_the_same_fingerprint(tmp_path: Path) -> None:
    assert encoding_parts(with_vae(copied(tmp_path, "vae"))) == encoding_parts(PLAIN)
    assert encoding_parts(with_text(copied_text(tmp_path))) == encoding_parts(PLAIN)


def test_what_a_base_lacks_is_not_taken_from_the_tiny_model(tmp_path: Path) -> None:
    base, trained = tmp_path / "base", tmp_path / "trained"
    for part in ("transformer", "vae", "clip"):  # prompts are read by its CLIP
        shutil.copytree(TINY / part, base / part)
    shutil.copytree(TINY / "transformer", trained / "transformer")
    write_record(trained, load_record(PLAIN).model_copy(update={"base": str(base)}))
    config = ModelConfig(device="cpu", checkpoint=str(trained))
    assert isinstance(load_text_encoder(config), ClipTextEncoder)
    assert isinstance(load_text_encoder(PLAIN), Umt5TextEncoder)


def test_a_path_that_is_set_wins_over_the_base_of_a_checkpoint(tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(TINY / "transformer", trained / "transformer")
    write_record(trained, load_record(PLAIN).model_copy(update={"base": str(tmp_path)}))
    unset = ModelConfig(device="cpu", checkpoint=str(trained))
    assert model_folders(unset) == [trained, tmp_path]
    assert model_folders(unset.model_copy(update={"path": "tiny"})) == [trained, TINY]


@pytest.mark.parametrize("part", ["transformer", "vae", "clip", "text_encoder"])
def test_code_of_ones_own_changes_the_fingerprint_of_its_part(part: Part) -> None:
    field = {"transformer": "backbone", "vae": "vae", "clip": "embedder"}.get(part, part)
    kind = BackboneConfig if field == "backbone" else PartConfig
    own = PLAIN.model_copy(update={field: kind(kind="my_package.mine:Mine")})
    assert part_fingerprint(own, (part,)) != part_fingerprint(PLAIN, (part,))


def test_new_weights_have_the_fingerprint_of_their_shape_and_seed() -> None:
    prints = {
        part_fingerprint(
            ModelConfig(backbone=BackboneConfig(scratch={"num_layers": n}, scratch_seed=seed)),
            ("transformer",),
        )
        for n, seed in ((1, 0), (2, 0), (2, 1))
    }
    assert len({*prints, part_fingerprint(PLAIN, ("transformer",))}) == 4


def test_a_checkpoint_keeps_the_vae_and_the_text_encoder_of_its_base(tmp_path: Path) -> None:
    shutil.copytree(TINY / "transformer", tmp_path / "transformer")
    write_record(tmp_path, load_record(PLAIN))
    trained = ModelConfig(device="cpu", checkpoint=str(tmp_path))
    assert encoding_parts(trained) == encoding_parts(PLAIN)


@pytest.mark.parametrize("size_mb", [1, 9, 70])
def test_weights_that_differ_in_the_middle_of_a_large_file_differ(
    size_mb: int, tmp_path: Path
) -> None:
    size = size_mb * 2**20
    for name, byte in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        with (tmp_path / name / WEIGHTS).open("wb") as file:
            file.truncate(size)
            file.seek(size // 3)
            file.write(bytes([byte]) * (2 * 2**20 if size_mb == 70 else 1))
            file.truncate(size)
    one, other = (encoding_parts(with_vae(tmp_path / name))["vae"] for name in ("a", "b"))
    assert one != other


def without(prefix: str) -> Callable[[Path], None]:
    def drop(path: Path) -> None:
        state = load_file(str(path))
        kept = {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}
        save_file(kept, str(path), {"format": "pt"})

    return drop


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("file", "damage", "load", "says"),
    [
        (f"transformer/{WEIGHTS}", without("blocks.1"), load_backbone, "27 tensors are missing"),
        (f"transformer/{WEIGHTS}", truncate, load_backbone, "Cannot load the transformer"),
        ("transformer/context_patch.safetensors", truncate, load_backbone, "does not load"),
        (f"vae/{WEIGHTS}", without("decoder.mid"), load_vae, "tensors are missing"),
        (f"vae/{WEIGHTS}", truncate, load_vae, "is not a Wan VAE"),
        ("clip/open_clip_model.safetensors", truncate, load_embedder, "does not load"),
        ("clip/open_clip_model.safetensors", without("visual"), load_embedder, "does not load"),
    ],
)
def test_a_damaged_part_is_named(
    file: str,
    damage: Callable[[Path], None],
    load: Callable[[ModelConfig], object],
    says: str,
    tmp_path: Path,
) -> None:
    part = file.partition("/")[0]
    shutil.copytree(TINY / part, tmp_path / part)
    write_record(tmp_path, load_record(PLAIN))
    damage(tmp_path / file)
    with pytest.raises(CheckpointError, match=says) as caught:
        load(ModelConfig(path=str(tmp_path), device="cpu"))
    assert part in str(caught.value)


def test_a_model_of_two_experts_is_refused(tmp_path: Path) -> None:
    for part in ("transformer", "transformer_2"):
        shutil.copytree(TINY / "transformer", tmp_path / part)
    write_record(tmp_path, load_record(PLAIN))
    with pytest.raises(CheckpointError, match=r"two transformers.*use Wan 2\.1"):
        load_backbone(ModelConfig(path=str(tmp_path), device="cpu"))
