from __future__ import annotations

import pytest

from tg_workbench.privacy import PoissonSampler


def test_sampler_says_the_rate_it_truly_uses() -> None:
    sampler = PoissonSampler(200, 0.05)
    assert sampler.sample_rate == 0.05
    assert sampler.expected_batch_size == 10


def test_sampler_of_rate_one_takes_everybody() -> None:
    assert PoissonSampler(5, 1.0).draw() == [0, 1, 2, 3, 4]


def test_batches_differ_in_size_and_may_be_empty() -> None:
    sampler = PoissonSampler(3, 0.2)
    sizes = {len(sampler.draw()) for _ in range(300)}
    assert {0, 1, 2} <= sizes


@pytest.mark.parametrize(("size", "rate"), [(0, 0.5), (5, 0.0), (5, 1.5), (5, float("nan"))])
def test_sampler_refuses_what_it_cannot_draw(size: int, rate: float) -> None:
    with pytest.raises(ValueError, match="sample"):
        PoissonSampler(size, rate)
