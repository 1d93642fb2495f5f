from __future__ import annotations

import math

import pytest
import torch

from tg_workbench.engine.images import as_image
from tg_workbench.errors import InvalidRequest


@pytest.mark.parametrize(
    ("columns", "side"), [(1, 8), (30, 8), (64, 8), (65, 9), (81, 9), (82, 10), (10_000, 100)]
)
def test_row_is_laid_out_line_by_line_and_filled_up_with_zeros(columns: int, side: int) -> None:
    image, layout = as_image((columns,), "cnn")
    assert image == (1, side, side)
    assert layout is not None
    rows = torch.randn(3, columns)
    found = layout(rows).reshape(3, math.prod(image))
    assert torch.equal(found[:, :columns], rows)
    assert not found[:, columns:].any()


def test_image_stays_as_it_is() -> None:
    assert as_image((3, 8, 9), "cnn") == ((3, 8, 9), None)


@pytest.mark.parametrize("shape", [(8, 8), (1, 7, 8), (1, 1, 8, 8)])
def test_what_is_neither_image_nor_row_is_refused_by_name(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="resnet18 needs"):
        as_image(shape, "resnet18")
