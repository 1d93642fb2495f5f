"""Is the noise what the accountant was told? Against its distribution, and seen from outside a trainer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from tests.claims.devices import DEVICES
from tg_workbench.engine import gradients as engine
from tg_workbench.engine.trainer import Architecture, OptimizerSpec, PrivacySpec, Trainer, TrainerSpec
from tg_workbench.privacy import PoissonSampler, SecureRandom
from tg_workbench.privacy.clipping import ClippedSum, clip
from tg_workbench.privacy.noise import add_noise, secure_gaussian

# A p-value below this once in a million runs: a test of chance that fails has found something.
RARE = 1e-6


@pytest.mark.parametrize("hardened", [False, True])
def test_noise_is_standard_normal(hardened: bool) -> None:
    drawn = secure_gaussian((300_001,), hardened=hardened).numpy()
    assert stats.kstest(drawn, "norm").pvalue > RARE
    assert abs(drawn.mean()) < 5 / math.sqrt(len(drawn))
    assert abs(drawn.std() - 1) < 5 / math.sqrt(2 * len(drawn))
    tails = int((np.abs(drawn) > 3.5).sum())
    assert stats.binomtest(tails, len(drawn), 2 * stats.norm.sf(3.5)).pvalue > RARE


def test_noise_coordinates_are_independent() -> None:
    drawn = secure_gaussian((2, 100_000)).numpy()
    halves = np.corrcoef(drawn.reshape(4, -1)) - np.eye(4)
    neighbours = np.corrcoef(drawn[0][:-1], drawn[0][1:])[0, 1]
    assert np.abs(halves).max() < 5 / math.sqrt(50_000)
    assert abs(neighbours) < 5 / math.sqrt(100_000)


def test_noise_never_comes_twice() -> None:
    generator = SecureRandom()
    first, second = secure_gaussian((9,), generator=generator), secure_gaussian((9,), generator=generator)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    seeded = secure_gaussian((9,))
    torch.manual_seed(0)
    assert not torch.equal(seeded, secure_gaussian((9,)))


def clipped() -> ClippedSum:
    model, x = nn.Linear(300, 200), torch.randn(4, 300)
    return clip(model, lambda: model(x).square().sum(1), 0.5)


def test_added_noise_has_the_multiplier_times_the_bound() -> None:
    honest = clipped()
    noise = flat(dict(add_noise(honest, 3.0))) - flat(dict(honest.tensors))
    assert stats.kstest(noise.numpy() / 1.5, "norm").pvalue > RARE


def flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()]).double()


def make_trainer(
    noise: float = 2.0,
    bound: float = 0.7,
    expected: float = 8.0,
    *,
    hardened: bool = False,
    device: torch.device | None = None,
) -> Trainer:
    return Trainer(
        TrainerSpec(
            model_ref="mlp",
            architecture=Architecture((40,), 5, (300,)),
            lora=None,
            optimizer=OptimizerSpec("sgd", learning_rate=1.0, weight_decay=0.0),
            loss="cross_entropy",
            privacy=PrivacySpec(noise, bound, hardened),
            expected_batch_size=expected,
            cache_folder=Path(),
        ),
        device=device,
    )


def weights(trainer: Trainer) -> Tensor:
    return flat(trainer.state(include_optimizer=False)[0])


def noise_seen_from_outside(trainer: Trainer) -> np.ndarray:
    """What one step on an empty batch did to the weights: noise and nothing else."""
    before = weights(trainer)
    trainer.forward_backward({"features": np.zeros((0, 40)), "targets": np.zeros(0, int)}, allow_empty=True)
    trainer.optim_step()
    return (weights(trainer) - before).numpy()


@pytest.mark.parametrize("device", DEVICES)
def test_step_moves_the_weights_by_exactly_the_noise_that_is_accounted(device: torch.device) -> None:
    moved = noise_seen_from_outside(make_trainer(device=device))
    assert stats.kstest(moved / (2.0 * 0.7 / 8.0), "norm").pvalue > RARE


def test_hardened_noise_moves_them_as_far() -> None:
    moved = noise_seen_from_outside(make_trainer(hardened=True))
    assert stats.kstest(moved / (2.0 * 0.7 / 8.0), "norm").pvalue > RARE


def test_hardened_noise_takes_four_draws_for_each_number(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    uniforms = SecureRandom.uniforms

    def counting(self: SecureRandom, count: int) -> Any:
        asked.append(count)
        return uniforms(self, count)

    monkeypatch.setattr(SecureRandom, "uniforms", counting)
    drawn = []
    for hardened in (False, True):
        asked.clear()
        noise_seen_from_outside(make_trainer(hardened=hardened))
        drawn.append(sum(asked))
    assert drawn[1] >= 4 * (drawn[0] - 1)


def test_halved_noise_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engine,
        "add_noise",
        lambda summed, sigma, **more: add_noise(summed, sigma / 2, **more),
    )
    moved = noise_seen_from_outside(make_trainer())
    assert stats.kstest(moved / (2.0 * 0.7 / 8.0), "norm").pvalue < RARE


def test_noise_is_divided_by_the_public_batch_size_not_the_true_one() -> None:
    trainer = make_trainer(noise=50.0, expected=100.0)
    before = weights(trainer)
    draw = np.random.default_rng(0)
    trainer.forward_backward({"features": draw.normal(size=(3, 40)), "targets": [0, 1, 2]})
    trainer.optim_step()
    moved = (weights(trainer) - before).std()
    assert float(moved) == pytest.approx(50.0 * 0.7 / 100.0, rel=0.03)


def test_noise_is_drawn_once_however_the_batch_was_cut() -> None:
    trainer = make_trainer()
    before = weights(trainer)
    for _ in range(4):
        trainer.forward_backward(
            {"features": np.zeros((0, 40)), "targets": np.zeros(0, int)}, allow_empty=True
        )
    trainer.optim_step()
    moved = (weights(trainer) - before).numpy()
    assert stats.kstest(moved / (2.0 * 0.7 / 8.0), "norm").pvalue > RARE


@pytest.mark.parametrize("device", DEVICES)
def test_one_more_example_moves_a_step_by_no_more_than_the_bound(device: torch.device) -> None:
    draw = np.random.default_rng(0)
    features, targets = 9 * draw.normal(size=(8, 40)), draw.integers(0, 5, 8)
    moved = []
    for count in (7, 8):
        trainer = make_trainer(noise=0.0, device=device)
        before = weights(trainer)
        trainer.forward_backward({"features": features[:count], "targets": targets[:count]})
        trainer.optim_step()
        moved.append(weights(trainer) - before)
    assert 0 < float((moved[1] - moved[0]).norm()) <= 0.7 / 8.0 * (1 + 1e-5)


def test_sampler_includes_each_record_with_its_rate_and_independently() -> None:
    sampler, draws = PoissonSampler(50, 0.3), 4000
    present = np.zeros((draws, 50))
    for number in range(draws):
        present[number, sampler.draw()] = 1
    assert stats.binomtest(int(present.sum()), present.size, 0.3).pvalue > RARE
    each = [stats.binomtest(int(column.sum()), draws, 0.3).pvalue for column in present.T]
    assert min(each) > RARE / 50
    together = np.corrcoef(present.T) - np.eye(50)
    assert np.abs(together).max() < 6 / math.sqrt(draws)
    sizes = present.sum(1)
    assert sizes.var() == pytest.approx(50 * 0.3 * 0.7, rel=0.15)  # a fixed size would have none


def test_a_large_draw_is_cut_and_nobody_is_favoured() -> None:
    sampler, draws = PoissonSampler(50, 0.3, truncated_batch_size=12), 4000
    present = np.zeros((draws, 50))
    for number in range(draws):
        present[number, sampler.draw()] = 1
    assert present.sum(1).max() == 12
    rate = float(np.minimum(stats.binom.rvs(50, 0.3, size=200_000, random_state=1), 12).mean()) / 50
    each = [stats.binomtest(int(column.sum()), draws, rate).pvalue for column in present.T]
    assert min(each) > RARE / 50
