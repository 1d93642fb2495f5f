from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tg_workbench.engine.losses import IGNORED, LOSSES
from tg_workbench.privacy.clipping import clip

TARGETS: dict[str, Tensor] = {
    "cross_entropy": torch.tensor([0, 2, 1, 1]),
    "mse": torch.randn(4, 3),
    "bce": torch.tensor([[0.0, 1.0, 0.5]] * 4),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_gives_one_finite_value_per_example_and_can_be_clipped(name: str) -> None:
    model, x, target = nn.Linear(5, 3), torch.randn(4, 5), TARGETS[name]
    values = LOSSES[name](model(x), target)
    assert values.shape == (4,)
    assert bool(values.isfinite().all())
    found = clip(model, lambda: LOSSES[name](model(x), target), 0.01)
    assert 0 < found.num_clipped <= 4


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_an_example_depends_on_no_other(name: str) -> None:
    said, target = torch.randn(4, 3), TARGETS[name]
    whole = LOSSES[name](said, target)
    alone = torch.cat([LOSSES[name](said[i : i + 1], target[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(whole, alone)


def test_tokens_are_averaged_within_their_own_example() -> None:
    said = torch.randn(2, 3, 5)
    target = torch.tensor([[1, IGNORED, 2], [4, IGNORED, IGNORED]])
    each = torch.nn.functional.cross_entropy(said.mT, target, reduction="none", ignore_index=IGNORED)
    expected = torch.stack(((each[0, 0] + each[0, 2]) / 2, each[1, 0]))
    torch.testing.assert_close(LOSSES["cross_entropy"](said, target), expected)


def test_example_without_labels_has_no_loss() -> None:
    nothing = torch.full((1, 3), IGNORED)
    assert LOSSES["cross_entropy"](torch.randn(1, 3, 5), nothing).tolist() == [0.0]
