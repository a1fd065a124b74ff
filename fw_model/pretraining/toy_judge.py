"""Training of the toy judge, and its accuracy on held-out truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fw_model.diffusion.schedule import derive_seed
from fw_model.errors import DataError
from fw_model.evaluation.judges.toy_judge import ToyJudge, fitting_weights, hue_gap_deg
from fw_model.evaluation.judges.toy_judge_net import (
    MAP_SIZE,
    ToyJudgeNet,
    ToyJudgeOutput,
    Vocabulary,
    cell_centres,
)
from fw_model.files.atomic import atomic_folder
from fw_model.pretraining.run import (
    EmaDecay,
    LogEvery,
    LoopConfig,
    Parts,
    WarmupSteps,
    move,
    pretrain,
)
from fw_model.pretraining.shot_library import ShotLibrary
from fw_model.pretraining.toy_judge_data import (
    LabelledShot,
    ToyJudgeBatch,
    sample_batch,
    vocabulary_of,
)

_FEWEST_FRAMES_OF_AN_ACTION = 6


class ToyJudgePretrainConfig(LoopConfig):
    """How the toy judge is trained."""

    start_from: str | None = Field(
        None,
        description="Folder of a toy judge to start from: weights of the same name and shape are "
        "loaded, the rest is initialised.",
    )
    steps: int = Field(4500, ge=1, description="Optimizer steps.")
    frames_per_step: int = Field(112, ge=1, description="Frames in a step, all clips together.")
    clip_frames: tuple[int, ...] = Field(
        (2, 10, 14),
        description="Lengths of clips; each step picks one. Short clips show more different shots; "
        "only clips of 6 frames or more teach actions.",
    )
    width: int = Field(128, ge=16, multiple_of=8, description="Channels of the last layers.")
    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate.")
    warmup_steps: WarmupSteps = 50
    weight_decay: float = Field(0.02, ge=0, description="Weight decay.")
    ema_decay: EmaDecay = 0.995
    log_every: LogEvery = 25


def pretrain_toy_judge(
    config: ToyJudgePretrainConfig,
    training: tuple[ShotLibrary, Sequence[LabelledShot]],
    held_out: tuple[ShotLibrary, Sequence[LabelledShot]],
    output: Path,
) -> dict[str, float]:
    """Train, resuming the run in `output`; return the held-out accuracy.

    Leaves `toy_judge/` (averaged weights), `metrics.jsonl` and `state.pt`.
    """
    library, labels = training
    vocabulary = vocabulary_of(labels)
    _check(library, max(config.clip_frames), vocabulary_of(held_out[1]), vocabulary)
    torch.manual_seed(derive_seed(config.seed, "toy_judge-weights"))
    net = ToyJudgeNet(vocabulary, config.width)
    if config.start_from is not None:
        net.load_state_dict(fitting_weights(Path(config.start_from), net), strict=False)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )

    def step(number: int, fraction: float) -> dict[str, Tensor]:
        rng = np.random.default_rng(derive_seed(config.seed, "toy_judge-clips", number))
        torch.manual_seed(derive_seed(config.seed, "toy_judge-dropout", number))
        num_frames = config.clip_frames[int(rng.integers(len(config.clip_frames)))]
        batch_size = max(1, config.frames_per_step // num_frames)
        batch = sample_batch(
            library, labels, vocabulary, rng, batch_size=batch_size, num_frames=num_frames
        )
        losses = toy_judge_losses(net(batch.frames, _jittered(batch.boxes, rng)), batch)
        move((optimizer,), losses["loss"], fraction, max_grad_norm=1.0)
        return losses

    def export() -> dict[str, float]:
        toy_judge = ToyJudge(net)
        accuracy = measure_toy_judge(toy_judge, *held_out)
        settings = config.model_dump(mode="json", exclude={"start_from"})  # without local paths
        with atomic_folder(output / "toy_judge") as folder:
            toy_judge.save(folder, training=settings, held_out=accuracy)
        return accuracy

    parts: Parts = {"net": net, "optimizer": optimizer}
    return pretrain(
        config,
        parts,
        output,
        num_steps=config.steps,
        data=library.identity,
        step=step,
        export=export,
    )


def toy_judge_losses(output: ToyJudgeOutput, batch: ToyJudgeBatch) -> dict[str, Tensor]:
    """Return the loss and its parts; a figure counts only where it is present."""
    present = batch.present  # [B, K]
    count = present.sum().clamp_min(1.0)
    num_frames = output.place.shape[1]

    def classes(logits: Tensor, index: Tensor) -> Tensor:
        return functional.cross_entropy(
            logits.flatten(0, 1), index.repeat_interleave(num_frames), label_smoothing=0.05
        )

    def of_present(errors: Tensor) -> Tensor:
        """Return the mean of `errors` [B, F, K] over the figures that are present."""
        return (errors.mean(1) * present).sum() / count

    hues = (output.body_hue - batch.body_hue[:, None]).square().sum(-1)  # [B, F, K]
    hues = hues + (output.trim_hue - batch.trim_hue[:, None]).square().sum(-1)
    boxes = (output.boxes - batch.boxes).abs().mean(-1)  # [B, F, K]
    actions = functional.cross_entropy(
        output.action.flatten(0, 1), batch.action.flatten(), reduction="none", label_smoothing=0.05
    )
    if num_frames < _FEWEST_FRAMES_OF_AN_ACTION:
        actions = actions.detach() * 0.0
    parts = {
        "place": classes(output.place, batch.place),
        "light": classes(output.light, batch.light),
        "scale": classes(output.scale, batch.scale),
        "presence": functional.binary_cross_entropy_with_logits(
            output.presence, present[:, None].expand_as(output.presence)
        ),
        **_map_losses(output.maps, _cells_in_boxes(batch)),
        "hue": of_present(hues),
        "box": of_present(boxes),
        "action": (actions * present.flatten()).sum() / count,
    }
    loss = (
        parts["place"]
        + 0.5 * parts["light"]
        + parts["scale"]
        + 4.0 * parts["presence"]
        + 4.0 * parts["maps"]
        + 2.0 * parts["kind"]
        + 2.0 * parts["hue"]
        + 4.0 * parts["box"]
        + 1.5 * parts["action"]
    )
    return {"loss": loss, **parts}


def _jittered(boxes: Tensor, rng: np.random.Generator) -> Tensor:
    """Return boxes [B, F, K, 4] shifted a little per clip, as the network's own are not exact."""
    shape = (boxes.shape[0], 1, boxes.shape[2], 4)
    return boxes + 0.03 * torch.from_numpy(rng.normal(size=shape)).float()


def _map_losses(maps: Tensor, inside: Tensor) -> dict[str, Tensor]:
    """Return the losses of the maps [B, F, K, h, w]: where figures are, and of which kind.

    The kind is trained only in cells that hold exactly one figure: a few cells, but the only ones
    that distinguish a cat from a bear.
    """
    alone = inside.sum(2) == 1  # [B, F, h, w]
    logits = maps.movedim(2, -1)[alone]  # [cells, K]
    kinds = inside.argmax(2)[alone]
    kind = functional.cross_entropy(logits, kinds, reduction="sum") / alone.sum().clamp_min(1)
    return {"maps": functional.binary_cross_entropy_with_logits(maps, inside), "kind": kind}


def _cells_in_boxes(batch: ToyJudgeBatch) -> Tensor:
    """Return 1 for each map cell whose centre lies in the box of a figure that is present."""
    x, y = cell_centres(MAP_SIZE, MAP_SIZE).unbind(1)  # [h w]
    x0, y0, x1, y1 = batch.boxes[..., None].unbind(-2)  # [B, F, K, 1]
    inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)  # [B, F, K, h w]
    there = inside * batch.present[:, None, :, None]
    cells: Tensor = there.unflatten(-1, (MAP_SIZE, MAP_SIZE))
    return cells


@torch.no_grad()
def measure_toy_judge(
    toy_judge: ToyJudge,
    library: ShotLibrary,
    labels: Sequence[LabelledShot],
    *,
    num_frames: int = 24,
) -> dict[str, float]:
    """Return the toy judge's accuracy on the first frames of all shots: shares, and degrees."""
    rights: dict[str, list[bool]] = {
        name: [] for name in ("figures", "place", "light", "scale", "action")
    }
    hue_errors: list[float] = []
    for index, label in enumerate(labels):
        count = min(num_frames, library.shots[index].num_frames)
        reading = toy_judge.read(np.array(library.clip(index, 0, count)))
        seen = reading.figures_in()
        rights["figures"].append(set(seen) == {figure.kind for figure in label.figures})
        rights["place"].append(reading.place_in() == label.place)
        rights["light"].append(reading.light_in() == label.light)
        rights["scale"].append(reading.scale_in() == label.scale)
        for figure in label.figures:
            rights["action"].append(reading.action_of(figure.kind) == figure.action)
            if figure.kind in seen:
                found = seen[figure.kind]
                hue_errors.append(hue_gap_deg(found.body_hue_deg, figure.body_hue_deg))
                hue_errors.append(hue_gap_deg(found.trim_hue_deg, figure.trim_hue_deg))
    accuracy = {f"{name}_accuracy": float(np.mean(claims)) for name, claims in rights.items()}
    if hue_errors:
        accuracy["hue_error_deg"] = float(np.mean(hue_errors))
        accuracy["hue_error_median_deg"] = float(np.median(hue_errors))
    return {**{k: round(v, 4) for k, v in accuracy.items()}, "num_shots": float(len(labels))}


def _check(library: ShotLibrary, longest: int, held_out: Vocabulary, known: Vocabulary) -> None:
    if not library.with_frames(longest):
        raise DataError(f"No shot has {longest} frames; choose shorter clips or longer shots.")
    unknown = sorted(set(held_out.kinds) - set(known.kinds))
    if unknown:
        raise DataError(
            f"The held-out films show {', '.join(unknown)}, which no training film shows; "
            "give more films."
        )
