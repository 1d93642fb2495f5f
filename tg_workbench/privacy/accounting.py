"""Accounting: noise_multiplier × sample_rate × steps → ε, and back.

Promises upper bounds only, and refuses numbers for which no bound is known. `Odometer` is the live reading
of a run; the cap it is held against is the guarantee.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from scipy.optimize import brentq

from tg_workbench.errors import InvalidRequest
from tg_workbench.privacy import curves
from tg_workbench.privacy.curves import Relation
from tg_workbench.privacy.steps import GaussianStep

Accountant = Literal["pld", "rdp"]

MOST_STEPS = 1_000_000
"""No plan is longer, and `steps_left` looks no further: a reading of so many steps takes seconds."""
_LEAST_NOISE, _MOST_NOISE = 0.02, 1e6


def epsilon(
    *,
    noise_multiplier: float,
    sample_rate: float,
    steps: int,
    delta: float,
    accountant: Accountant = "pld",
    relation: Relation = "add_or_remove_one",
    truncated_batch_size: int = 0,
    dataset_size: int = 0,
) -> float:
    """The ε of `steps` steps at this δ. Infinite where nothing hides the record.

    `truncated_batch_size` (with the `dataset_size`): larger Poisson batches were cut to so many records.
    """
    step = GaussianStep(noise_multiplier, sample_rate, truncated_batch_size, dataset_size)
    _check_terms(delta, accountant, relation)
    if steps < 0:
        raise InvalidRequest("steps must be zero or above")
    if steps == 0 or sample_rate == 0.0:
        return 0.0
    if noise_multiplier == 0.0:
        return math.inf
    if accountant == "rdp":
        return _rdp({step: steps}, delta, relation)
    return _pld(step, steps, delta, relation)


def noise_multiplier(
    *,
    target_epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: Accountant = "pld",
    relation: Relation = "add_or_remove_one",
    truncated_batch_size: int = 0,
    dataset_size: int = 0,
    go_on: Callable[[], None] | None = None,
) -> float:
    """The least noise (to four digits, rounded up) that keeps `steps` steps at or below `target_epsilon`.

    That may take many seconds: `go_on` is called now and then, and breaks it off by raising.
    """
    _check_target(target_epsilon, steps, sample_rate)
    _check_terms(delta, accountant, relation)

    def with_noise(noise: float) -> GaussianStep:
        return GaussianStep(noise, sample_rate, truncated_batch_size, dataset_size)

    def by_renyi(noise: float) -> float:
        return _scale(with_noise(noise), steps, delta, relation)

    def reached(noise: float, interval: float = curves.FINEST_INTERVAL) -> float:
        if go_on is not None:
            go_on()
        step = with_noise(noise)
        if accountant == "rdp":
            return _rdp({step: steps}, delta, relation)
        return _pld(step, steps, delta, relation, interval)

    # Searched on a coarse grid, which only rounds ε up and costs a tenth; the last digits on the fine one.
    def roughly(noise: float) -> float:
        return reached(noise, _rough_interval(with_noise(noise), target_epsilon))

    near = _search(by_renyi, target_epsilon, start=1.0, stride=2.0, xtol=1e-2)  # Rényi costs are quick
    root = _search(roughly, target_epsilon, start=near, stride=1.25, xtol=1e-4)
    digit = 10.0 ** (math.floor(math.log10(root)) - 3)
    noise = math.ceil(root / digit) * digit
    while reached(noise) > target_epsilon:
        noise += digit
    while noise - digit > _LEAST_NOISE and reached(noise - digit) <= target_epsilon:
        noise -= digit
    return float(f"{noise:.10g}")


def _search(
    reached: Callable[[float], float], target: float, *, start: float, stride: float, xtol: float
) -> float:
    """A noise close to the least one whose ε is at most `target`, sought from `start` on."""
    low = high = start
    while reached(high) > target:
        low, high = high, stride * high
        if high > _MOST_NOISE:
            raise InvalidRequest("no noise_multiplier reaches this target_epsilon; ask for a larger one")
    while low == high or reached(low) <= target:
        low, high = low / stride, low
        if low < _LEAST_NOISE:
            return _LEAST_NOISE

    def excess(log_noise: float) -> float:
        return math.log(max(reached(math.exp(log_noise)), 1e-12) / target)

    return math.exp(brentq(excess, math.log(low), math.log(high), xtol=xtol))


class Odometer:
    """What a run has spent so far, read after every step without slowing it down.

    One kind of step is read from privacy loss distributions: exactly at `plan_steps` and at the limit
    that `steps_left` found, and in between at the next point of a 5 % grid. A change of noise
    or of sample rate in the middle leaves what those are proved for, so mixed steps are read from Rényi
    costs at fixed orders, which may be chosen while running. Steps without sampling add up exactly.
    """

    def __init__(
        self,
        delta: float,
        accountant: Accountant = "pld",
        relation: Relation = "add_or_remove_one",
        plan_steps: int | None = None,
    ) -> None:
        _check_terms(delta, accountant, relation)
        self.delta = delta
        self.accountant = accountant
        self.relation: Relation = relation
        self.name: str = accountant
        """The accountant of the last reading: pld, rdp, or both where kinds are composed apart."""
        self._plan = plan_steps
        self._limits: dict[tuple[GaussianStep, float], int] = {}
        self._beside: tuple[object, int] | None = None

    def epsilon(self, counts: Mapping[GaussianStep, int]) -> float:
        """The ε of these steps together: an upper bound that never falls as steps are added."""
        kinds = {step: count for step, count in counts.items() if count > 0 and step.sample_rate > 0.0}
        self.name = self.accountant
        if not kinds:
            return 0.0
        if any(step.noise_multiplier == 0.0 for step in kinds):
            return math.inf
        if self.accountant == "pld":
            if all(step.sample_rate == 1.0 for step in kinds):
                return _without_sampling(kinds, self.delta, self.relation)
            if len(kinds) == 1:
                return self._one_kind(*next(iter(kinds.items())))
        self.name = "rdp"
        by_renyi = _rdp(kinds, self.delta, self.relation)
        if self.accountant == "pld" and any(step.is_truncated for step in kinds):
            apart = self._apart(kinds)
            if apart < by_renyi:
                self.name = "pld+rdp"
                return apart
        return by_renyi

    def _apart(self, kinds: Mapping[GaussianStep, int]) -> float:
        """Basic composition: each kind of cut batch by itself, all others together, an equal part of δ each.

        Rényi costs of cut batches are valid but loose, unless a cut is very rare.
        """
        cut = {step: count for step, count in kinds.items() if step.is_truncated}
        others = {step: count for step, count in kinds.items() if not step.is_truncated}
        delta = self.delta / (len(cut) + bool(others))
        total = _rdp(others, delta, self.relation) if others else 0.0
        for step, count in cut.items():
            interval = _live_interval(_scale(step, count, delta, self.relation))
            total += _pld(step, count, delta, self.relation, interval)
        return total

    def steps_left(self, counts: Mapping[GaussianStep, int], step: GaussianStep, cap: float) -> int:
        """How many more steps like `step` keep ε at or below `cap`; the one after them would pass it."""
        others = {
            kind: count
            for kind, count in counts.items()
            if kind != step and count > 0 and kind.sample_rate > 0.0
        }
        taken = counts.get(step, 0)
        if others:
            return max(0, self._limit_beside(others, step, cap) - taken)
        if (step, cap) not in self._limits:
            self._limits[step, cap] = self._most({}, step, cap, start=self._plan or 0)
        return max(0, self._limits[step, cap] - taken)

    def _limit_beside(self, others: dict[GaussianStep, int], step: GaussianStep, cap: float) -> int:
        """How many such steps fit beside others, which are mostly the same ones as at the last look."""
        asked = (tuple(sorted(others.items())), step, cap)
        if self._beside is None or self._beside[0] != asked:
            self._beside = (asked, self._most(others, step, cap, start=0))
        return self._beside[1]

    def _most(self, counts: Mapping[GaussianStep, int], step: GaussianStep, cap: float, start: int) -> int:
        """The largest number of `step`s on top of `counts` within `cap`.

        Rényi costs, which are quick, give a count that surely fits; the rest of the way is read exactly.
        """
        is_sampled = not counts and self.accountant == "pld" and 0.0 < step.sample_rate < 1.0

        def after(more: int) -> float:
            total = counts.get(step, 0) + more
            if is_sampled and step.noise_multiplier > 0:
                return self._exact(step, total)
            return self.epsilon({**counts, step: total})

        def surely_after(more: int) -> float:
            return self._quickly(step, more, cap) if is_sampled and step.noise_multiplier > 0 else after(more)

        if after(1) > cap:
            return 0
        if start and after(start) <= cap < after(start + 1):
            return start  # the noise was chosen for just this many
        low, high = 1, 2
        while surely_after(high) <= cap:
            if high >= MOST_STEPS:
                return MOST_STEPS
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if surely_after(middle) <= cap else (low, middle)
        return min(MOST_STEPS, _last_within(cap, low, after))

    def _quickly(self, step: GaussianStep, count: int, cap: float) -> float:
        """An upper bound of ε that takes milliseconds."""
        if step.is_truncated:  # Rényi costs say little of cut batches; a coarse grid rounds up too
            return _pld(step, count, self.delta, self.relation, _rough_interval(step, cap))
        if self.relation == "add_or_remove_one":
            return _rdp({step: count}, self.delta, self.relation)
        return self._exact(step, count)

    def _one_kind(self, step: GaussianStep, count: int) -> float:
        anchors = [limit for (kind, _), limit in self._limits.items() if kind == step]
        anchors += [self._plan] if self._plan else []
        readings = [self._exact(step, anchor) for anchor in anchors if anchor >= count]
        if count not in anchors:
            readings.append(self._coarse(step, _next_grid_point(count)))
        if self.relation == "add_or_remove_one":
            readings.append(_rdp({step: count}, self.delta, self.relation))
        return min(readings)

    def _exact(self, step: GaussianStep, count: int) -> float:
        return _pld(step, count, self.delta, self.relation)

    def _coarse(self, step: GaussianStep, count: int) -> float:
        """A live reading: losses rounded up more than in `_exact`, by about a thousandth of ε."""
        interval = _live_interval(_scale(step, count, self.delta, self.relation))
        return curves.pld_epsilon(step, count, self.delta, self.relation, interval)


def _live_interval(scale: float) -> float:
    """A grid of about a thousandth of ε: few different ones, so that the first step's losses are kept."""
    return next((grid for grid in (3e-3, 1e-3, 3e-4) if grid <= scale / 1000), curves.FINEST_INTERVAL)


def _rough_interval(step: GaussianStep, cap: float) -> float:
    """A grid for searching near `cap`: coarse beside ε, but fine beside the loss of a single step."""
    return max(curves.FINEST_INTERVAL, min(cap / 3000, step.sample_rate / (10 * step.noise_multiplier)))


def _last_within(cap: float, low: int, after: Callable[[int], float]) -> int:
    """The last count whose reading is within `cap`, sought upwards from `low`, which is within."""
    growth = (cap / max(after(low), cap / 10)) ** 2  # ε grows about as the root of the count
    width = max(1, math.ceil(low * (growth - 1)))
    while after(low + width) <= cap:
        low, width = low + width, max(1, width // 4) if width > 4 else 2 * width
        if low >= MOST_STEPS:
            return MOST_STEPS
    high = low + width
    while high - low > 1:
        share = (cap - after(low)) / (after(high) - after(low))
        middle = min(high - 1, max(low + 1, low + int(share * (high - low))))
        if after(middle) > cap:
            high = middle
        elif middle + 1 < high and after(middle + 1) > cap:
            return middle
        else:
            low = middle
    return low


def _next_grid_point(count: int) -> int:
    return count if count <= 16 else _GRID[bisect_left(_GRID, count)]


def _grid() -> list[int]:
    points = [16]
    while points[-1] < 2 * MOST_STEPS:
        points.append(max(points[-1] + 1, math.floor(points[-1] * 1.05)))
    return points


_GRID = _grid()


def _check_target(target_epsilon: float, steps: int, sample_rate: float) -> None:
    if not 0.0 < target_epsilon < math.inf:
        raise InvalidRequest("target_epsilon must be a finite number above 0")
    if not 1 <= steps <= MOST_STEPS:
        raise InvalidRequest(f"steps must be from 1 to {MOST_STEPS} to choose the noise for")
    if not 0.0 < sample_rate <= 1.0:
        raise InvalidRequest("sample_rate must be above 0 and at most 1 to choose the noise for")


def _check_terms(delta: float, accountant: str, relation: str) -> None:
    if not 0.0 < delta < 1.0:
        raise InvalidRequest("delta must be above 0 and below 1")
    if accountant not in ("pld", "rdp"):
        raise InvalidRequest("accountant must be pld or rdp")
    if relation not in ("add_or_remove_one", "replace_one"):
        raise InvalidRequest("relation must be add_or_remove_one or replace_one")


def _pld(
    step: GaussianStep,
    steps: int,
    delta: float,
    relation: Relation,
    least_interval: float = curves.FINEST_INTERVAL,
) -> float:
    if step.sample_rate == 1.0:
        return _without_sampling({step: steps}, delta, relation)
    # Very large ε (toy noise) would need a huge grid; a coarser one only rounds further up.
    interval = max(least_interval, _scale(step, steps, delta, relation) / 2e6)
    reading = curves.pld_epsilon(step, steps, delta, relation, interval)
    return min(reading, _rdp({step: steps}, delta, relation)) if relation == "add_or_remove_one" else reading


def _scale(step: GaussianStep, steps: int, delta: float, relation: Relation) -> float:
    """About how large ε is: it only chooses how finely to compute, and where to search from."""
    never_cut = replace(step, truncated_batch_size=0, dataset_size=0)
    size = _rdp({never_cut: steps}, delta, "add_or_remove_one")
    return size if relation == "add_or_remove_one" else 2 * size


def _without_sampling(kinds: Mapping[GaussianStep, int], delta: float, relation: Relation) -> float:
    """Gaussian steps on the whole batch compose to one Gaussian, also when chosen adaptively."""
    sensitivity = 1.0 if relation == "add_or_remove_one" else 2.0
    shift_squared = sum(count / step.noise_multiplier**2 for step, count in kinds.items())
    return curves.gaussian_epsilon(sensitivity * math.sqrt(shift_squared), delta)


def _rdp(kinds: Mapping[GaussianStep, int], delta: float, relation: Relation) -> float:
    if relation == "replace_one" and any(step.sample_rate < 1.0 for step in kinds):
        raise InvalidRequest("the rdp accountant cannot bound sampled steps under replace_one; use pld")
    costs = [count * curves.rdp_of_one_step(step, relation) for step, count in kinds.items()]
    return curves.rdp_epsilon(sum(costs[1:], start=costs[0]), delta)
