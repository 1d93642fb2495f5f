"""Does an audit of the real engine stay below what is charged, and does it find a mechanism that is broken?

At 95 % confidence a worst mechanism would fail one run in twenty. Ours is not the worst one: what is found of
Gaussian noise lies at half its ε or below, many times its own spread away, so these do not fail by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tg_workbench.engine import gradients as engine
from tg_workbench.engine.gradient_canaries import SeenCanaries, learn_canaries
from tg_workbench.engine.specs import ENGINES, PrivacySpec
from tg_workbench.errors import Interrupted
from tg_workbench.privacy import PoissonSampler, epsilon
from tg_workbench.privacy.auditing import one_run_epsilon
from tg_workbench.privacy.clipping import ClippedSum
from tg_workbench.privacy.noise import add_noise

SURE = 0.95
DELTA = 1e-5
SIGMA, STEPS = 4.0, 16  # without sampling: ε of a Gaussian with μ = 1


def seen(*, canaries: int = 2000, sample_rate: float = 1.0, **privacy: Any) -> SeenCanaries:
    spec = PrivacySpec(**{"noise_multiplier": SIGMA, "max_grad_norm": 0.5, **privacy})
    return learn_canaries(
        spec, canaries=canaries, sample_rate=sample_rate, steps=STEPS, expected_batch_size=40.0
    )


def bound(found: SeenCanaries, confidence: float = SURE) -> float:
    return one_run_epsilon(found.scores, found.present, delta=DELTA, confidence=confidence).epsilon


CLAIM = epsilon(noise_multiplier=SIGMA, sample_rate=1.0, steps=STEPS, delta=DELTA)


@pytest.mark.parametrize("engine_name", ENGINES)
def test_what_the_real_engine_reveals_stays_below_what_is_charged(engine_name: str) -> None:
    found = bound(seen(engine=engine_name))
    assert 0.7 < found <= 0.75 * CLAIM, "an audit that finds nothing would notice nothing"


def test_the_canaries_are_there_by_their_coins_and_move_by_the_bound() -> None:
    found = seen(canaries=4000)
    inside, outside = found.scores[found.present], found.scores[~found.present]
    spread = SIGMA * 0.5 * np.sqrt(STEPS)
    assert abs(found.present.mean() - 0.5) < 5 * 0.5 / np.sqrt(4000)
    assert abs(inside.mean() - 0.5 * STEPS) < 5 * spread / np.sqrt(len(inside))
    assert abs(outside.mean()) < 5 * spread / np.sqrt(len(outside))
    assert abs(outside.std() / spread - 1) < 5 / np.sqrt(2 * len(outside))


def test_sampling_and_a_noisy_loss_hide_more() -> None:
    whole, part = seen(canaries=4000), seen(canaries=4000, sample_rate=0.2)
    charged = epsilon(noise_multiplier=SIGMA, sample_rate=0.2, steps=STEPS, delta=DELTA)
    assert bound(part, 1 - 1e-7) <= charged < CLAIM  # one in 25,000 bounds of 0.95 is above so small a claim
    assert bound(part) < bound(whole)
    assert bound(seen(noisy_loss_bound=2.0, hardened_noise=True)) <= CLAIM


def _ten_times_too_small(clipped: ClippedSum, noise_multiplier: float, **more: Any) -> dict[str, Tensor]:
    return add_noise(clipped, noise_multiplier / 10, **more)


def _drawn_once() -> Callable[..., dict[str, Tensor]]:
    """The noise of the first step comes again with the other sign in the next: they cancel."""
    kept: list[dict[str, Tensor]] = []

    def broken(clipped: ClippedSum, noise_multiplier: float, **more: Any) -> dict[str, Tensor]:
        if kept:
            noise = kept.pop()
            return {name: tensor - noise[name] for name, tensor in clipped.tensors.items()}
        noisy = add_noise(clipped, noise_multiplier, **more)
        kept.append({name: noisy[name] - tensor for name, tensor in clipped.tensors.items()})
        return noisy

    return broken


@pytest.mark.parametrize("broken", [_ten_times_too_small, _drawn_once()], ids=["too small", "cancels"])
def test_noise_that_is_not_what_was_charged_is_found(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[..., dict[str, Tensor]]
) -> None:
    monkeypatch.setattr(engine, "add_noise", broken)
    assert bound(seen()) > CLAIM


def test_examples_that_are_not_clipped_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = engine.Gradients._clipped

    def unclipped(self: engine.Gradients, *arguments: Any) -> ClippedSum:
        assert self.spec.privacy is not None
        bound, found = self.spec.privacy.max_grad_norm, honest(self, *arguments)
        for tensor in found.tensors.values():
            tensor.mul_(10.0)  # each example ten times as long as the bound that noise is measured in
        assert found.bound == bound
        return found

    monkeypatch.setattr(engine.Gradients, "_clipped", unclipped)
    assert bound(seen()) > CLAIM


def test_a_sampler_that_draws_more_often_than_it_says_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody is in every batch, where one in two hundred was charged."""
    monkeypatch.setattr(PoissonSampler, "draw", lambda self: list(range(self.size)))
    charged = epsilon(noise_multiplier=SIGMA, sample_rate=0.005, steps=STEPS, delta=DELTA)
    assert bound(seen(sample_rate=0.005, canaries=4000)) > charged


def test_an_audit_is_broken_off_when_asked() -> None:
    spec = PrivacySpec(1.0, 1.0)
    with pytest.raises(Interrupted):
        learn_canaries(
            spec, canaries=100, sample_rate=1.0, steps=9, expected_batch_size=1.0, should_stop=lambda: True
        )
    few = learn_canaries(
        spec, canaries=100, sample_rate=1.0, steps=9, expected_batch_size=1.0, longest_seconds=0.0
    )
    assert few.steps == 1
