"""PrivacySettings: how the privacy of a campaign's rounds is spelled, checked, and told in every answer.

QFLARE's two (`differential_privacy`, `noise_level`) mean differential privacy of devices: `noise_level` is
the noise multiplier on the sum of clipped deltas, so 0.1 hides next to nothing, and the answer says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from tg_workbench.errors import InvalidField, PrivacyRefused

DEFAULT_NOISE = 1.0
LEAST_NOISE = 0.05
"""ε is in the hundreds there, and with less of it takes accountants minutes to say how large it is."""
UNIT = "device"
ZERO_OUT, ADD_OR_REMOVE = "zero_out_one", "add_or_remove_one"
WEAK_EPSILON = 20.0
"""From here on ε promises next to nothing: e²⁰ is half a billion."""
MOST_ROUNDS = 10_000
_WORDS = {"mechanism": ("gaussian", "dp_ftrl"), "sampling": ("none", "poisson")}
_NUMBERS = ("noise_level", "clip_norm", "target_epsilon", "sample_rate")
_WHOLE = ("rounds", "max_participations", "min_separation", "tree_rounds")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySettings:
    """What is asked of the rounds of a campaign.

    Give `noise_level`, or `target_epsilon`: then the noise is sought. `gaussian`: fresh noise each round.
    `dp_ftrl`: noise in trees of `tree_rounds` rounds, for devices that come when they like,
    `max_participations` times in a tree and `min_separation` rounds apart; nothing is sampled. `poisson`: the
    server draws each device with probability `sample_rate`, each round, and tells nobody whom.
    """

    differential_privacy: bool = False
    noise_level: float | None = None
    clip_norm: float = 1.0
    adaptive_clipping: bool = False
    target_epsilon: float | None = None
    rounds: int = 1
    mechanism: str = "gaussian"
    sampling: str = "none"
    sample_rate: float = 1.0
    max_participations: int = 1
    min_separation: int = 1
    tree_rounds: int | None = None
    """None: one tree for all rounds."""

    def __post_init__(self) -> None:
        self._check_kinds()
        self._check_ranges()
        if self.differential_privacy:
            self._check_together()
        elif self.noise_level or self.target_epsilon is not None:
            raise InvalidField("differential_privacy", "must be true for noise to be added")

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> PrivacySettings:
        """What a request asks for. Raises InvalidField, also for a member nobody knows."""
        known = {field.name for field in fields(cls)}
        if asked.keys() - known:
            raise InvalidField("privacy_settings", f"may only have {', '.join(sorted(known))}")
        return cls(**asked)

    def as_json(self) -> dict[str, Any]:
        """Itself, to be stored; `of` reads it."""
        return asdict(self)

    @property
    def noise(self) -> float | None:
        """The noise multiplier that is asked for; None: it is sought for `target_epsilon`."""
        if self.target_epsilon is not None:
            return None
        return DEFAULT_NOISE if self.noise_level is None else float(self.noise_level)

    @property
    def mode(self) -> str:
        """How devices come into a round, beside ε: `sampled`, `unsampled` or `tree`."""
        if self.mechanism == "dp_ftrl":
            return "tree"
        return "sampled" if self.sampling == "poisson" else "unsampled"

    @property
    def relation(self) -> str:
        """What is hidden of a device: all that it sent; if nobody knows who was drawn, also that it was."""
        return ADD_OR_REMOVE if self.sampling == "poisson" else ZERO_OUT

    @property
    def rounds_of_tree(self) -> int:
        """After how many rounds a new tree begins."""
        return self.rounds if self.tree_rounds is None else self.tree_rounds

    def question(self, delta: float) -> dict[str, Any]:
        """What to ask the planner: the cost of all rounds, and the noise if it is sought."""
        asked: dict[str, Any] = {
            "sample_rate": float(self.sample_rate),
            "steps": self.rounds,
            "delta": delta,
            "noise_multiplier": self.noise,
            "target_epsilon": self.target_epsilon,
        }
        if self.mechanism == "dp_ftrl":
            asked["steps"] = math.ceil(self.rounds / self.rounds_of_tree)
            asked["tree"] = {
                "steps": self.rounds_of_tree,
                "participations": self.max_participations,
                "separation": self.min_separation,
            }
        return asked

    def check_strategy(self, *, needs_each_update: bool, control: bool) -> None:
        """Raises PrivacyRefused for a strategy that sees more of updates than one noisy mean."""
        if self.differential_privacy and (needs_each_update or control):
            raise PrivacyRefused(
                "with differential privacy a strategy gets one noisy mean: choose one that needs no single "
                "update and no control variates (fedavg, fedavgm, fedadam, fedprox)"
            )

    def view(
        self,
        *,
        delta: float,
        noise_multiplier: float,
        epsilon: float,
        round_epsilon: float | None = None,
        accountant: str = "pld",
    ) -> dict[str, Any]:
        """What an answer says: everything ε needs to mean something.

        `epsilon`: of the model, with all rounds so far.
        """
        if not self.differential_privacy:
            return dict(NO_GUARANTEE)
        return {
            "guarantee": "differential_privacy",
            "epsilon": epsilon if math.isfinite(epsilon) else None,
            "round_epsilon": round_epsilon,
            "delta": delta,
            "unit": UNIT,
            "relation": self.relation,
            "mode": self.mode,
            "mechanism": self.mechanism,
            "accountant": accountant,
            "noise_multiplier": noise_multiplier,
            "clip_norm": self.clip_norm,
            "adaptive_clipping": self.adaptive_clipping,
            "sample_rate": self.sample_rate,
            "max_participations": self.max_participations if self.mechanism == "dp_ftrl" else None,
            "warning": warning_of(epsilon),
            "note": _NOTES[self.mode],
        }

    def _check_kinds(self) -> None:
        for name in ("differential_privacy", "adaptive_clipping"):
            _require(isinstance(getattr(self, name), bool), name, "true or false")
        for name in _NUMBERS:
            value = getattr(self, name)
            is_left_out = value is None and name in ("noise_level", "target_epsilon")
            _require(is_left_out or _is_number(value), name, "a finite number")
        for name in _WHOLE:
            value = getattr(self, name)
            is_left_out = value is None and name == "tree_rounds"
            _require(is_left_out or type(value) is int, name, "a whole number")
        for name, words in _WORDS.items():
            _require(getattr(self, name) in words, name, " or ".join(words))

    def _check_ranges(self) -> None:
        _require(
            self.noise_level is None or 0 <= self.noise_level <= 1e6, "noise_level", "from 0 to 1,000,000"
        )
        _require(1e-6 <= self.clip_norm <= 1e6, "clip_norm", "from 0.000001 to 1,000,000")
        _require(
            self.target_epsilon is None or 0 < self.target_epsilon <= 1000,
            "target_epsilon",
            "above 0, and at most 1000",
        )
        _require(1 <= self.rounds <= MOST_ROUNDS, "rounds", "from 1 to 10,000")
        _require(0 < self.sample_rate <= 1, "sample_rate", "above 0, and at most 1")
        most = self.rounds_of_tree
        _require(1 <= most <= MOST_ROUNDS, "tree_rounds", "from 1 to 10,000")
        _require(1 <= self.max_participations <= most, "max_participations", "from 1 to the rounds of a tree")
        _require(1 <= self.min_separation <= most, "min_separation", "from 1 to the rounds of a tree")

    def _check_together(self) -> None:
        if self.noise_level is not None and self.target_epsilon is not None:
            raise InvalidField("target_epsilon", "cannot go with a noise_level: one of them says the other")
        if self.noise_level is not None and self.noise_level < LEAST_NOISE:
            raise InvalidField("noise_level", f"must be at least {LEAST_NOISE:g}: less noise hides nothing")
        if (self.sampling == "poisson") != (self.sample_rate < 1):
            raise InvalidField(
                "sample_rate", "must be below 1 where sampling is poisson, and is for nothing else"
            )
        is_tree = self.mechanism == "dp_ftrl"
        if is_tree and self.sampling == "poisson":
            raise InvalidField("sampling", "must be none with dp_ftrl: it is for devices that nobody draws")
        if is_tree and self.adaptive_clipping:
            raise InvalidField("adaptive_clipping", "cannot go with dp_ftrl: a tree has one clip_norm")
        if not is_tree and (
            self.max_participations > 1 or self.min_separation > 1 or self.tree_rounds is not None
        ):
            raise InvalidField(
                "mechanism", "must be dp_ftrl for max_participations, min_separation and tree_rounds to count"
            )


def warning_of(epsilon: float) -> str | None:
    """What is to be said beside an ε that promises next to nothing."""
    if epsilon < WEAK_EPSILON:
        return None
    return (
        f"ε is {WEAK_EPSILON:g} or more: this is practically no guarantee. More noise (noise_level), fewer "
        "rounds or a target_epsilon make one"
    )


def require_affordable(total: float, cap: float | None, spent: float) -> None:
    """Raises PrivacyRefused when the planner's `total_epsilon` passes what the fleet may spend."""
    if cap is not None and not total <= cap + 1e-9:
        raise PrivacyRefused(
            f"these rounds would take the fleet to ε = {total:.2f}, past its cap of {cap:.2f} "
            f"({spent:.2f} is spent): ask for more noise or fewer rounds, or have an administrator "
            "raise the cap"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _require(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise InvalidField(name, f"must be {expected}")


_NOTES = {
    "sampled": "ε holds for whoever sees the models, and not who was drawn: that is told to nobody",
    "unsampled": "every round counts in full for every device of the fleet, whether it came or not",
    "tree": "a tree of rounds counts as a whole for every device of the fleet, from its first round on",
}
NO_GUARANTEE: dict[str, Any] = {
    "guarantee": "none",
    "epsilon": None,
    "delta": None,
    "unit": UNIT,
    "relation": None,
    "mode": None,
    "accountant": None,
    "warning": None,
    "note": "no guarantee: these rounds learn without differential privacy",
}
"""The view of rounds without differential privacy."""
