"""What devices do differently is what the papers say, on torch tensors and numpy arrays alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tg_workbench.errors import InvalidField
from tg_workbench.federation.strategies.local import add_control, add_proximal, new_control


def test_the_proximal_term_is_the_gradient_of_the_papers_penalty() -> None:
    model, mu = nn.Linear(4, 2), 0.3
    given = [parameter.detach().clone() + 0.1 for parameter in model.parameters()]
    strayed = [((w - g) ** 2).sum() for w, g in zip(model.parameters(), given, strict=True)]
    penalty = torch.stack(strayed).sum() * mu / 2
    expected = torch.autograd.grad(penalty, list(model.parameters()))
    gradients = [torch.zeros_like(parameter) for parameter in model.parameters()]
    with torch.no_grad():
        add_proximal(gradients, list(model.parameters()), given, mu)
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_both_terms_change_the_gradients_in_place() -> None:
    gradient, ones = np.ones(3, np.float32), np.ones(3, np.float32)
    add_proximal([gradient], [ones * 3], [ones], 0.5)
    add_control([gradient], [ones * 4], [ones])
    assert gradient.tolist() == [1.0 + 0.5 * 2.0 + 3.0] * 3


def test_a_new_control_variate_is_the_mean_gradient_when_steps_were_uncorrected() -> None:
    gradients = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    zeros = np.zeros(7, np.float32)
    delta = -0.1 * gradients.sum(0)
    np.testing.assert_allclose(new_control(zeros, zeros, delta, 5, 0.1), gradients.mean(0), atol=1e-6)


def test_corrected_steps_still_give_the_devices_own_mean_gradient() -> None:
    rng = np.random.default_rng(1)
    gradients, own, server = rng.normal(size=(5, 7)), rng.normal(size=7), rng.normal(size=7)
    delta = -0.1 * (gradients - own + server).sum(0)
    np.testing.assert_allclose(new_control(own, server, delta, 5, 0.1), gradients.mean(0), atol=1e-12)


@pytest.mark.parametrize(("steps", "rate"), [(0, 0.1), (5, 0.0), (True, 0.1), (5, float("nan"))])
def test_a_control_variate_of_no_training_is_refused(steps: int, rate: float) -> None:
    with pytest.raises(InvalidField):
        new_control(np.zeros(1), np.zeros(1), np.zeros(1), steps, rate)
