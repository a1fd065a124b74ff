"""What a training step measures beside its loss, by hand."""

import torch

from fw_model.training.step import copy_leak


def test_copy_leak_is_likeness_to_the_nearest_keyframe_less_likeness_to_the_truth() -> None:
    truth = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1)
    keyframes = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).view(1, 2, 2, 1, 1, 1)
    copied = torch.tensor([0.0, 3.0]).view(1, 2, 1, 1, 1)
    between = torch.tensor([0.8, 0.6]).view(1, 2, 1, 1, 1)
    assert copy_leak(copied, truth, keyframes).item() == 1.0
    torch.testing.assert_close(copy_leak(between, truth, keyframes), torch.tensor(0.6 - 0.8))
    assert copy_leak(truth, truth, keyframes).item() == -1.0
    assert copy_leak(truth, truth, keyframes[:, :0]).isnan()
