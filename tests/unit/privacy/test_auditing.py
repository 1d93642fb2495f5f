"""Known answers of the auditing arithmetic, and how often its bounds are wrong: never more than allowed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy import epsilon
from tg_workbench.privacy.auditing import (
    LARGEST_EPSILON,
    auc,
    independent_epsilon,
    lira_scores,
    logit_confidence,
    one_run_epsilon,
    one_run_p_value,
    rates_epsilon,
    tpr_at_fpr,
    twins_epsilon,
)


def coins(generator: np.random.Generator, count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return generator.random(count) < 0.5


def test_p_value_without_delta_is_the_binomial_tail() -> None:
    p = one_run_p_value(canaries=1000, guesses=100, correct=90, epsilon=1.5, delta=0.0)
    assert p == pytest.approx(stats.binom.sf(89, 100, expit(1.5)))
    assert one_run_p_value(canaries=9, guesses=0, correct=0, epsilon=1.0, delta=0.0) == 1.0


def test_p_value_with_delta_is_that_of_the_papers_own_program() -> None:
    """Steinke, Nasr and Jagielski 2023, Appendix D, followed line by line."""
    m, r, v, eps, delta = 400, 60, 55, 1.2, 1e-4
    q = 1 / (1 + math.exp(-eps))
    alpha, total = 0.0, 0.0
    for i in range(1, v + 1):
        total += float(stats.binom.pmf(v - i, r, q))
        alpha = max(alpha, total / i)
    expected = float(stats.binom.sf(v - 1, r, q)) + alpha * delta * 2 * m
    p = one_run_p_value(canaries=m, guesses=r, correct=v, epsilon=eps, delta=delta)
    assert p == pytest.approx(expected, rel=1e-9)


def test_guesses_that_are_all_right_prove_what_the_closed_form_says() -> None:
    """All of r right: p = (e^ε/(1+e^ε))^r, so ε = log(p^(1/r) / (1 − p^(1/r))) at each of the six tests."""
    present = np.arange(1000) % 2 == 0
    bound = one_run_epsilon(present.astype(float), present, delta=0.0, confidence=0.95)
    root = (0.05 / 6) ** (1 / 1000)
    assert bound.guesses == bound.correct == 1000
    assert bound.epsilon == pytest.approx(math.log(root / (1 - root)), abs=1e-4)


def test_guesses_by_chance_prove_nothing() -> None:
    generator = np.random.default_rng(0)
    present = coins(generator, 2000)
    assert one_run_epsilon(generator.normal(size=2000), present, delta=1e-5, confidence=0.95).epsilon < 0.1


def test_a_delta_that_explains_everything_proves_nothing() -> None:
    present = np.arange(100) % 2 == 0
    assert one_run_epsilon(present.astype(float), present, delta=0.9, confidence=0.95).epsilon == 0.0


@pytest.mark.parametrize("mean_shift", [0.5, 1.0, 3.0])
def test_no_bound_passes_the_epsilon_of_an_exact_gaussian_mechanism(mean_shift: float) -> None:
    """100 runs at 95 %: at most one in twenty may be wrong, and none of these is."""
    generator = np.random.default_rng(2305)
    true = epsilon(noise_multiplier=1 / mean_shift, sample_rate=1.0, steps=1, delta=1e-5)
    bounds = []
    for _ in range(100):
        present = coins(generator, 500)
        scores = present * mean_shift + generator.normal(size=500)
        bounds.append(one_run_epsilon(scores, present, delta=1e-5, confidence=0.95).epsilon)
    assert max(bounds) <= true
    assert np.mean(bounds) > true / 10


def test_bounds_of_randomized_response_are_wrong_no_more_often_than_allowed() -> None:
    """Pure ε-DP of one bit each, where the theorem is tight: 80 % confidence, wrong in at most 20 %."""
    generator, true = np.random.default_rng(7), 1.0
    wrong = 0
    for _ in range(400):
        present = coins(generator, 400)
        told = present == (generator.random(400) < expit(true))
        scores = told + generator.random(400) * 0.5
        wrong += one_run_epsilon(scores, present, delta=0.0, confidence=0.8).epsilon > true
    assert stats.binomtest(wrong, 400, 0.2, alternative="greater").pvalue > 1e-6
    assert wrong < 80


def test_more_noise_than_claimed_is_never_found_and_less_is() -> None:
    """The reference of design: σ ten times too small under a claim of ε = 4.38 is caught with 2000."""
    generator = np.random.default_rng(3)
    present = coins(generator, 2000)
    claim = epsilon(noise_multiplier=1.0, sample_rate=1.0, steps=1, delta=1e-5)
    honest = one_run_epsilon(present + generator.normal(size=2000), present, delta=1e-5, confidence=0.95)
    broken = one_run_epsilon(
        present + 0.1 * generator.normal(size=2000), present, delta=1e-5, confidence=0.95
    )
    assert claim == pytest.approx(4.3772, abs=1e-3)
    assert 1.0 < honest.epsilon < claim < broken.epsilon < LARGEST_EPSILON


def test_rates_are_held_to_clopper_and_pearson() -> None:
    tpr = stats.binomtest(90, 100).proportion_ci(1 - 2 * 0.0125, "exact").low
    fpr = stats.binomtest(5, 100).proportion_ci(1 - 2 * 0.0125, "exact").high
    found = rates_epsilon(
        true_positives=90, positives=100, false_positives=5, negatives=100, delta=1e-5, confidence=0.95
    )
    assert found == pytest.approx(math.log((tpr - 1e-5) / fpr))


def test_rates_prove_something_from_either_side() -> None:
    """Nobody absent is missed: the false negatives tell more than the true positives."""
    counts = {"positives": 1000, "negatives": 1000, "delta": 0.0, "confidence": 0.95}
    few_misses = rates_epsilon(true_positives=1000, false_positives=500, **counts)  # type: ignore[arg-type]
    assert few_misses > 4.0
    assert rates_epsilon(true_positives=500, false_positives=500, **counts) == 0.0  # type: ignore[arg-type]
    nobody = {**counts, "positives": 0}
    assert rates_epsilon(true_positives=0, false_positives=1, **nobody) == 0.0  # type: ignore[arg-type]


def test_rates_of_an_exact_gaussian_mechanism_stay_below_its_epsilon() -> None:
    generator, shift = np.random.default_rng(11), 1.0
    true = epsilon(noise_multiplier=1.0, sample_rate=1.0, steps=1, delta=1e-5)
    bounds = [
        rates_epsilon(
            true_positives=int((generator.normal(size=2000) + shift > 2.0).sum()),
            positives=2000,
            false_positives=int((generator.normal(size=2000) > 2.0).sum()),
            negatives=2000,
            delta=1e-5,
            confidence=0.95,
        )
        for _ in range(300)
    ]
    assert max(bounds) <= true
    assert np.mean(bounds) > 1.0


def test_a_confidence_is_the_logit_of_the_probability() -> None:
    losses = -np.log(np.array([0.5, 0.9, 0.01]))
    expected = np.log(np.array([0.5, 0.9, 0.01]) / np.array([0.5, 0.1, 0.99]))
    assert logit_confidence(losses) == pytest.approx(expected)
    assert np.isfinite(logit_confidence(np.array([0.0, np.inf, np.nan]))).all()


@pytest.mark.parametrize("twins", [16, 80])
def test_lira_is_the_likelihood_ratio_of_the_other_twins(twins: int) -> None:
    generator = np.random.default_rng(5)
    present = generator.random((twins, 30)) < 0.5
    confidences = generator.normal(size=(twins, 30)) + 2.0 * present
    scores = lira_scores(confidences, present)
    others, inside = confidences[1:, 4], present[1:, 4]
    if twins == 80:  # so many that each row has a spread of its own
        seen, unseen = others[inside], others[~inside]
        expected = stats.norm.logpdf(confidences[0, 4], seen.mean(), seen.std(ddof=1) + 1e-6)
        expected -= stats.norm.logpdf(confidences[0, 4], unseen.mean(), unseen.std(ddof=1) + 1e-6)
        assert scores[0, 4] == pytest.approx(expected)
    assert auc(scores.ravel(), present.ravel()) > 0.85


def test_lira_takes_the_side_it_knows_when_twins_are_few() -> None:
    present = np.array([[True, False, True], [False, False, True], [False, False, True], [True, False, True]])
    confidences = np.array([[3.0, 0.0, 1.0], [0.0, 0.1, 2.0], [0.1, -0.1, 1.5], [3.1, 5.0, 1.2]])
    scores = lira_scores(confidences, present)
    assert scores.shape == present.shape
    assert np.isfinite(scores).all()
    assert scores[3, 1] > scores[1, 1]  # no twin learned row 1: much surer than usual looks learned
    assert (lira_scores(np.zeros((1, 2)), np.zeros((1, 2), dtype=bool)) == 0).all()


def test_rates_at_few_false_alarms() -> None:
    present = np.array([True] * 4 + [False] * 4)
    scores = np.array([9.0, 8.0, 2.0, 1.0, 5.0, 1.5, 0.5, 0.0])
    assert tpr_at_fpr(scores, present, 0.001) == 0.5
    assert tpr_at_fpr(scores, present, 0.25) == 0.75
    assert tpr_at_fpr(scores, present, 1.0) == 1.0
    assert auc(scores, present) == pytest.approx((4 + 4 + 3 + 2) / 16)
    assert auc(np.zeros(8), present) == 0.5


@pytest.mark.parametrize(
    ("canaries", "delta", "confidence"), [(9, 1e-5, 0.95), (50, -0.1, 0.95), (50, 1e-5, 1.0), (50, 1.0, 0.9)]
)
def test_what_proves_nothing_is_refused(canaries: int, delta: float, confidence: float) -> None:
    present = np.arange(canaries) % 2 == 0
    with pytest.raises(InvalidRequest):
        one_run_epsilon(present.astype(float), present, delta=delta, confidence=confidence)
    with pytest.raises(InvalidRequest):
        one_run_p_value(canaries=5, guesses=6, correct=1, epsilon=1.0, delta=0.0)


def test_twins_of_an_exact_gaussian_mechanism_stay_below_its_epsilon() -> None:
    """Each twin adds noise to its coins; the best of sixteen is still no more than is true."""
    generator = np.random.default_rng(4)
    true = epsilon(noise_multiplier=1.0, sample_rate=1.0, steps=1, delta=1e-5)
    bounds = []
    for _ in range(10):
        present = generator.random((16, 300)) < 0.5
        scores = lira_scores(generator.normal(size=(16, 300)) + present, present)
        bounds.append(twins_epsilon(scores, present, delta=1e-5, confidence=0.95).epsilon)
        assert independent_epsilon(scores, present, delta=1e-5, confidence=0.95) <= true
    assert 0.3 < np.mean(bounds) <= max(bounds) <= true


def test_twins_that_show_everything_prove_much() -> None:
    present = np.random.default_rng(4).random((4, 500)) < 0.5
    scores = present.astype(np.float64)
    assert twins_epsilon(scores, present, delta=1e-5, confidence=0.95).epsilon > 3.0
    assert independent_epsilon(scores, present, delta=1e-5, confidence=0.95) > 3.0
