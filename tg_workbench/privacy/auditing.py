"""Auditing: from how well somebody guessed who was there, to an ε that the mechanism cannot be below.

Every bound holds with the confidence it was asked for, and is one-sided: a mechanism may reveal far more than
an audit finds. No bound is an estimate of ε, and none replaces the accountant.

Pitfalls: δ times the number of canaries must stay well below 1 − confidence, or nothing is proved.
`one_run_epsilon` needs coins that were fair, independent and unknown to whoever made the scores.
`rates_epsilon` needs independent trials, which the rows of a single model are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from tg_workbench.errors import InvalidRequest

Scores = NDArray[np.float64]
Present = NDArray[np.bool_]

GUESSED_SHARES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
"""Which parts of the canaries are guessed: the surer ones alone, or all. Each is a test of its own."""
LARGEST_EPSILON = 100.0
_FEWEST_GUESSES = 10
_FALSE_ALARMS = (0.001, 0.01, 0.1)
_STEADY = 32
"""From so many twins on a row has a spread of its own; with fewer all share one (Carlini et al. 2022)."""


@dataclass(frozen=True, slots=True)
class OneRunBound:
    """What guesses prove: ε is at least `epsilon`, of `guesses` made `correct` were right."""

    epsilon: float
    guesses: int
    correct: int


def one_run_epsilon(scores: Scores, present: Present, *, delta: float, confidence: float) -> OneRunBound:
    """The largest ε that guesses about one run refute: Steinke, Nasr and Jagielski 2023.

    `scores` [canaries]: the higher, the more it seems to have been there. `present` [canaries]: the coins.
    Guesses the top as present and the bottom as absent, for several numbers of guesses, and shares what may
    go wrong out among them (Bonferroni). Raises InvalidRequest for fewer than ten canaries.
    """
    _check(scores, present, delta, confidence)
    canaries = len(scores)
    counts = sorted({2 * round(canaries * share / 2) for share in GUESSED_SHARES})
    counts = [count for count in counts if _FEWEST_GUESSES <= count <= canaries] or [2 * (canaries // 2)]
    order = np.argsort(np.nan_to_num(scores, nan=0.0), kind="stable")
    allowed = (1.0 - confidence) / len(counts)
    bounds = []
    for count in counts:
        half = count // 2
        correct = int((~present[order[:half]]).sum() + present[order[canaries - half :]].sum())
        refuted = _refuted(canaries, count, correct, delta, allowed)
        bounds.append(OneRunBound(refuted, count, correct))
    return max(bounds, key=lambda bound: (bound.epsilon, bound.guesses))


def one_run_p_value(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """How likely an (ε, δ)-private mechanism lets so many guesses be right: ibid., Appendix D.

    P[W ≥ correct] + 2·δ·canaries · maxᵢ P[correct > W ≥ correct − i] / i, W ~ Bin(guesses, e^ε/(1+e^ε)).
    """
    if not 0 <= correct <= guesses <= canaries:
        raise InvalidRequest("of the canaries some are guessed, and of the guesses some are right")
    right = float(expit(epsilon))
    beyond = float(stats.binom.sf(correct - 1, guesses, right))
    if delta == 0.0 or correct == 0:
        return min(1.0, beyond)
    just_below = np.cumsum(stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
    steepest = float((just_below / np.arange(1, correct + 1)).max())
    return min(1.0, beyond + 2.0 * canaries * delta * steepest)


def rates_epsilon(
    *,
    true_positives: int,
    positives: int,
    false_positives: int,
    negatives: int,
    delta: float,
    confidence: float,
) -> float:
    """ε ≥ log((TPR − δ) / FPR), and the same of the true and false negatives; rates by Clopper and Pearson.

    Four one-sided limits share what may go wrong. Zero where nothing is proved. The trials must be
    independent, and the test fixed before they were made.
    """
    if not 0 <= true_positives <= positives or not 0 <= false_positives <= negatives:
        raise InvalidRequest("no more can be found than there are")
    if positives == 0 or negatives == 0:
        return 0.0
    allowed = (1.0 - confidence) / 4

    def at_least(found: int, of: int) -> float:
        return float(stats.beta.ppf(allowed, found, of - found + 1)) if found else 0.0

    def at_most(found: int, of: int) -> float:
        return float(stats.beta.ppf(1.0 - allowed, found + 1, of - found)) if found < of else 1.0

    ratios = (
        (at_least(true_positives, positives) - delta) / at_most(false_positives, negatives),
        (at_least(negatives - false_positives, negatives) - delta)
        / at_most(positives - true_positives, positives),
    )
    return max(0.0, *(math.log(ratio) if ratio > 0 else 0.0 for ratio in ratios))


# ------------------------------------------------------------------------------------------- LiRA
def logit_confidence(losses: Scores) -> Scores:
    """log(p / (1 − p)) of the right answer's probability p = e^−loss: Carlini et al. 2022."""
    sure: Scores = np.clip(np.nan_to_num(losses, nan=50.0), 1e-12, 50.0)
    logits: Scores = -sure - np.log(-np.expm1(-sure))
    return logits


def lira_scores(confidences: Scores, present: Present) -> Scores:
    """How much likelier each confidence is if the row was there, as a log: Carlini et al. 2022, Algorithm 1.

    Both [twins, rows]. Each twin is judged by all the others (leave one out). A row that fewer than two
    others learned, or did not learn, is judged by its one known side (the offline variant);
    without any its score is 0.
    """
    if confidences.shape != present.shape or confidences.ndim != 2:
        raise InvalidRequest("confidences and coins come as [twins, rows], both of one shape")
    return np.stack([_against_the_others(confidences, present, twin) for twin in range(len(confidences))])


def _against_the_others(confidences: Scores, present: Present, twin: int) -> Scores:
    others = np.delete(confidences, twin, axis=0)
    were_in = np.delete(present, twin, axis=0)
    seen, spread_in, count_in = _gaussian(others, were_in)
    unseen, spread_out, count_out = _gaussian(others, ~were_in)
    here = confidences[twin]
    online = stats.norm.logpdf(here, seen, spread_in) - stats.norm.logpdf(here, unseen, spread_out)
    offline_out = -stats.norm.logsf(here, unseen, spread_out)
    offline_in = stats.norm.logcdf(here, seen, spread_in)
    chosen = np.select(
        [(count_in >= 2) & (count_out >= 2), count_out >= 2, count_in >= 2], [online, offline_out, offline_in]
    )
    score: Scores = np.asarray(chosen, dtype=np.float64)
    return score


def _gaussian(values: Scores, chosen: Present) -> tuple[Scores, Scores, NDArray[np.int64]]:
    """Mean and spread of the chosen values of each row; with few of them all rows share one spread."""
    count = chosen.sum(axis=0)
    mean = np.where(chosen, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(chosen, (values - mean) ** 2, 0.0).sum(axis=0)
    shared = squares.sum() / max(1, int(np.maximum(count - 1, 0).sum()))
    own = squares / np.maximum(count - 1, 1)
    variance = np.where(count >= _STEADY, own, shared)
    return mean, np.sqrt(variance) + 1e-6, count


def twins_epsilon(scores: Scores, present: Present, *, delta: float, confidence: float) -> OneRunBound:
    """What the best of several runs proves, each with coins of its own: both [twins, rows].

    The scores of a twin may depend on the coins of all the others, never on its own: so each row of bits is a
    one-run audit, and what may go wrong is shared out among them (Bonferroni).
    """
    sure = 1.0 - (1.0 - confidence) / len(scores)
    bounds = [
        one_run_epsilon(found, coins, delta=delta, confidence=sure)
        for found, coins in zip(scores, present, strict=True)
    ]
    return max(bounds, key=lambda bound: (bound.epsilon, bound.correct))


def independent_epsilon(scores: Scores, present: Present, *, delta: float, confidence: float) -> float:
    """`rates_epsilon` of the odd twins at thresholds that the even ones have set: both [twins, rows].

    It takes every row of every twin for a trial of its own, as the literature does. Rows of one model are not
    independent of each other, so this proves nothing; it is there to be compared with other reports.
    """
    absent = scores[::2][~present[::2]]
    judged, learned = scores[1::2].ravel(), present[1::2].ravel()
    if not len(absent) or not len(judged):
        return 0.0
    bounds = []
    for fpr in _FALSE_ALARMS:
        taken = judged > float(np.quantile(absent, 1.0 - fpr))
        bounds.append(
            rates_epsilon(
                true_positives=int((taken & learned).sum()),
                positives=int(learned.sum()),
                false_positives=int((taken & ~learned).sum()),
                negatives=int((~learned).sum()),
                delta=delta,
                confidence=1.0 - (1.0 - confidence) / len(_FALSE_ALARMS),
            )
        )
    return max(bounds)


# ------------------------------------------------------------------------------------------ rates
def tpr_at_fpr(scores: Scores, present: Present, fpr: float) -> float:
    """Which part of those who were there is found, when at most `fpr` of the others are taken for them."""
    absent = np.sort(scores[~present])[::-1]
    allowed = math.floor(fpr * len(absent))
    if not len(absent) or not present.any():
        return 0.0
    threshold = absent[allowed] if allowed < len(absent) else -math.inf
    return float((scores[present] > threshold).mean())


def auc(scores: Scores, present: Present) -> float:
    """How often one who was there scores higher than one who was not; a tie counts half. 0.5: no better."""
    inside, outside = int(present.sum()), int((~present).sum())
    if not inside or not outside:
        return 0.5
    ranks = stats.rankdata(scores)
    return float((ranks[present].sum() - inside * (inside + 1) / 2) / (inside * outside))


def _refuted(canaries: int, guesses: int, correct: int, delta: float, allowed: float) -> float:
    """The largest ε under which so many right guesses are less likely than `allowed`."""

    def likely(epsilon: float) -> bool:
        return allowed <= one_run_p_value(
            canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
        )

    if likely(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while not likely(high):
        if high >= LARGEST_EPSILON:
            return LARGEST_EPSILON
        low, high = high, 2 * high
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if likely(middle) else (middle, high)
    return low


def _check(scores: Scores, present: Present, delta: float, confidence: float) -> None:
    if scores.ndim != 1 or scores.shape != present.shape:
        raise InvalidRequest("scores and coins come one for each canary")
    if len(scores) < _FEWEST_GUESSES:
        raise InvalidRequest(f"an audit needs at least {_FEWEST_GUESSES} canaries")
    if not 0.0 <= delta < 1.0 or not 0.0 < confidence < 1.0:
        raise InvalidRequest("delta lies from 0 to below 1, confidence between 0 and 1")
