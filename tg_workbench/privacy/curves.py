"""The three ways to ε: exactly (no sampling), by privacy loss distributions, by Rényi divergence.

Every number is an upper bound. `dp_accounting` does the hard parts; this module only keeps its answers.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal

import dp_accounting
import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import rdp_privacy_accountant as rdp
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import binom

from tg_workbench.privacy.steps import GaussianStep

Relation = Literal["add_or_remove_one", "replace_one"]

ORDERS: tuple[float, ...] = (
    *(1 + tenth / 10 for tenth in range(1, 100)),
    *(float(order) for order in range(11, 65)),
    128.0,
    256.0,
    512.0,
    1024.0,
)
"""The Rényi orders composed over: fixed, so that sums stay valid when the noise changes mid-run."""

_ROUNDING = 1e-12
FINEST_INTERVAL = 1e-4
"""The grid of privacy losses that reported numbers are computed on."""


def gaussian_epsilon(mean_shift: float, delta: float) -> float:
    """The exact ε of telling N(0, 1) from N(`mean_shift`, 1): Balle and Wang 2018, Theorem 8."""
    if _gaussian_delta(0.0, mean_shift) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while _gaussian_delta(high, mean_shift) > delta:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _gaussian_delta(middle, mean_shift) > delta else (low, middle)
    return high


def _gaussian_delta(epsilon: float, mean_shift: float) -> float:
    above = float(log_ndtr(mean_shift / 2 - epsilon / mean_shift))
    below = epsilon + float(log_ndtr(-mean_shift / 2 - epsilon / mean_shift))
    return -math.exp(above) * math.expm1(min(0.0, below - above))


@lru_cache(maxsize=256)
def rdp_of_one_step(step: GaussianStep, relation: Relation) -> NDArray[np.float64]:
    """What one step costs at each of ORDERS; infinite: no bound is known. Steps add up by adding these."""
    if step.is_beyond_bounds:
        return np.full(len(ORDERS), math.inf)
    cost = _rdp_of_event(step.noise_multiplier, step.sample_rate, relation)
    if step.is_truncated:
        cost = _rdp_of_truncated(cost, step)
    cost.setflags(write=False)
    return cost


def _rdp_of_event(noise_multiplier: float, sample_rate: float, relation: Relation) -> NDArray[np.float64]:
    accountant = rdp.RdpAccountant(ORDERS, _relation(relation))
    with _quiet():
        accountant.compose(_event(noise_multiplier, sample_rate))
    cost: NDArray[np.float64] = accountant.rdp.copy()
    # A divergence is never negative and never no number: what the library could not compute is no bound.
    # Left as it is, one such order would be read as ε = 0.
    return np.where(np.isnan(cost) | (cost < -_ROUNDING), np.inf, np.maximum(cost, 0.0))


def _rdp_of_truncated(never_cut: NDArray[np.float64], step: GaussianStep) -> NDArray[np.float64]:
    """Rényi cost of a batch that is cut when it is too large.

    `dp_accounting` bounds it by a mixture (arXiv 2508.15089): with probability p, that of a cut given that
    the record was drawn, one record replaces another (we count a shift of 4 / noise, without sampling), else
    it is the batch that is never cut. exp((α-1)·D_α) of a mixture is at most the mean of its parts'.
    """
    others = step.dataset_size - 1
    cut = float(binom.sf(step.truncated_batch_size - 1, others, step.sample_rate)) if others else 0.0
    if cut == 0.0:
        return never_cut
    orders = np.asarray(ORDERS)
    replaced: NDArray[np.float64] = orders * 8.0 / step.noise_multiplier**2
    if cut == 1.0:
        return replaced
    parts = ((orders - 1) * never_cut + math.log1p(-cut), (orders - 1) * replaced + math.log(cut))
    mixed: NDArray[np.float64] = np.logaddexp(*parts) / (orders - 1)
    return mixed


def rdp_epsilon(cost: NDArray[np.float64], delta: float) -> float:
    """The smallest ε that composed Rényi costs allow (Canonne, Kamath and Steinke 2020, Proposition 12)."""
    if not np.isfinite(cost).any():
        return math.inf  # the library would say 0
    with _quiet():
        return float(rdp.compute_epsilon(ORDERS, cost, delta)[0])


@lru_cache(maxsize=4096)
def pld_epsilon(
    step: GaussianStep, steps: int, delta: float, relation: Relation, interval: float = FINEST_INTERVAL
) -> float:
    """ε of `steps` equal steps from their composed privacy loss distribution, rounded up to `interval`."""
    if step.is_beyond_bounds:
        return math.inf
    one = _pld_of_one_step(step, relation, interval)
    return float(one.self_compose(steps).get_epsilon_for_delta(delta))


@lru_cache(maxsize=8)
def _pld_of_one_step(step: GaussianStep, relation: Relation, interval: float) -> Any:
    if step.is_truncated:
        return pld.from_truncated_subsampled_gaussian_mechanism(
            step.dataset_size,
            step.sample_rate,
            step.truncated_batch_size,
            step.noise_multiplier,
            value_discretization_interval=interval,
            neighboring_relation=_relation(relation),
        )
    return pld.from_gaussian_mechanism(
        step.noise_multiplier,
        sampling_prob=step.sample_rate,
        value_discretization_interval=interval,
        neighboring_relation=_relation(relation),
    )


def _relation(name: Relation) -> Any:
    return dp_accounting.NeighboringRelation[name.upper()]


def _event(noise_multiplier: float, sample_rate: float) -> Any:
    return dp_accounting.PoissonSampledDpEvent(sample_rate, dp_accounting.GaussianDpEvent(noise_multiplier))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Mute the library's notes about orders it leaves out: leaving one out only makes ε larger."""
    log = logging.getLogger("absl")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
