from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tg_workbench.privacy.shares import Factors, Share, norm, whole

SHAPE = torch.Size((7, 5))


def dense(rows: int) -> Factors:
    return Factors(torch.randn(3, rows, 7), torch.randn(3, rows, 5), SHAPE)


def picked(rows: int) -> Factors:
    return Factors(torch.randint(0, 7, (3, rows)), torch.randn(3, rows, 5), SHAPE)


@pytest.mark.parametrize(
    "one", [dense(1), dense(4), picked(1), picked(6)], ids=["row", "rows", "word", "words"]
)
def test_factors_stand_for_the_whole_gradient(one: Factors) -> None:
    each, weights = one.whole(), torch.rand(3)
    assert each.shape == (3, *SHAPE)
    torch.testing.assert_close(
        one.norm().double(), each.double().square().sum((1, 2)).sqrt(), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(one.weighted_sum(weights), torch.einsum("b,bij->ij", weights, each))


@pytest.mark.parametrize(
    "shares",
    [[dense(2), picked(3)], [picked(3), picked(2)], [dense(2), torch.randn(3, 7, 5)]],
    ids=["tied", "picked twice", "whole and factors"],
)
def test_norm_of_several_shares_is_that_of_their_sum(shares: list[Share]) -> None:
    expected = whole(shares).double().square().sum((1, 2))
    torch.testing.assert_close(norm(shares).double(), expected.sqrt(), rtol=1e-5, atol=1e-9)


def test_norm_of_a_long_gradient_is_exact_enough() -> None:
    long: Tensor = 1.0 + torch.rand(2, 3 * 4096 + 5)
    torch.testing.assert_close(norm([long]), long.double().norm(dim=1), rtol=1e-6, atol=0)


def test_shares_of_bad_examples_become_zero() -> None:
    bad = torch.tensor([False, True, False])
    for share in (dense(4), picked(4)):
        kept = share.without(bad).whole()
        assert not kept[1].any()
        assert torch.equal(kept[0], share.whole()[0])
