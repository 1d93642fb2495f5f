"""A gauge of the privacy budget: what a run has revealed about one example at most, and what it still may.

It shows a client's privacy view, whole: ε with its δ, unit, relation, mode and accountant, because a bare ε
means nothing. Where there is no guarantee it says so, loudly. What it rounds, it rounds against itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets

from tg_widgets import assets

_WATCHFUL, _NEARLY_SPENT = 0.6, 0.85
_RELATIONS = {"add_or_remove_one": "add or remove one", "replace_one": "replace one"}
_MODES = {"sampled": "server-sampled", "client_batches": "caller's batches"}
_NO_GUARANTEE = "This model learns without differential privacy: it may give away the rows it was trained on."


class BudgetGauge(anywidget.AnyWidget):
    """Shows `privacy`, the privacy view of a training client (or None before there is one)."""

    _esm = assets.script("budget_gauge")
    _css = assets.style("budget_gauge.css")

    privacy: Any = traitlets.Dict(default_value=None, allow_none=True)
    title = traitlets.Unicode("Privacy budget").tag(sync=True)
    level = traitlets.Unicode("empty", read_only=True).tag(sync=True)
    text = traitlets.Unicode(read_only=True).tag(sync=True)
    face = traitlets.Dict(read_only=True).tag(sync=True)
    facts = traitlets.List(traitlets.Dict(), read_only=True).tag(sync=True)

    def __init__(self, privacy: Mapping[str, Any] | None = None, **traits: Any) -> None:
        super().__init__(privacy=None if privacy is None else dict(privacy), **traits)
        self._tell({"new": self.privacy})

    def show(self, privacy: Mapping[str, Any] | None) -> None:
        """Show another privacy view; from any thread."""
        self.privacy = None if privacy is None else dict(privacy)

    @traitlets.observe("privacy")
    def _tell(self, change: Mapping[str, Any]) -> None:
        privacy: Mapping[str, Any] | None = change["new"]
        level = level_of(privacy)
        with self.hold_sync():
            self.set_trait("level", level)
            self.set_trait("text", describe(privacy))
            has_numbers = privacy is not None and level not in ("empty", "none")
            self.set_trait("face", _face(privacy) if privacy and has_numbers else {})
            self.set_trait("facts", _facts(privacy) if privacy and has_numbers else [])


def level_of(privacy: Mapping[str, Any] | None) -> str:
    """How alarming a privacy view is: empty, calm, watchful, nearly_spent, spent or none (no guarantee)."""
    if privacy is None:
        return "empty"
    if privacy.get("guarantee") == "none":
        return "none"
    if privacy.get("guarantee") != "differential_privacy":
        return "empty"
    share = _share(privacy.get("spent_epsilon"), privacy.get("target_epsilon"))
    if privacy.get("steps_left") == 0 or share >= 1:
        return "spent"
    return "nearly_spent" if share >= _NEARLY_SPENT else "watchful" if share >= _WATCHFUL else "calm"


def describe(privacy: Mapping[str, Any] | None) -> str:
    """The gauge in one sentence, for a screen reader and for a log."""
    level = level_of(privacy)
    if privacy is None:
        return "There is no training client yet, so nothing has been revealed."
    if level == "empty":
        return "The noise that keeps the promise is being worked out; nothing has been revealed yet."
    if level == "none":
        return f"No privacy guarantee. {_NO_GUARANTEE}"
    spent, target = privacy.get("spent_epsilon"), privacy.get("target_epsilon")
    left = privacy.get("steps_left")
    sentence = f"ε {rounded_up(spent)} spent" + (f" of {target:g}" if target is not None else "")
    sentence += f" at δ {scientific(privacy.get('delta'))}, after {privacy.get('steps', 0)} steps"
    if level == "spent":
        return f"{sentence}. The budget is spent: no further step is allowed."
    return sentence + (f", {left} steps left." if left is not None else ".")


def rounded_up(epsilon: float | None) -> str:
    """An ε with two decimals, never below the true value; 1e-9 forgives binary fractions."""
    if epsilon is None:
        return "–"
    return "∞" if math.isinf(epsilon) else f"{math.ceil(epsilon * 100 - 1e-9) / 100:.2f}"


def scientific(value: float | None) -> str:
    """A small probability as people write it: 1 × 10⁻⁵."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits.removesuffix('.0')} × 10{power}"


def _share(part: float | None, whole: float | None) -> float:
    return part / whole if part is not None and whole else 0.0


def _face(privacy: Mapping[str, Any]) -> dict[str, Any]:
    """What the dial shows: shares of the target, and the numbers in its middle."""
    spent, target = privacy.get("spent_epsilon") or 0.0, privacy.get("target_epsilon")
    reserved = privacy.get("reserved_epsilon") or 0.0
    face: dict[str, Any] = {
        "spent": min(_share(spent, target), 1.0),
        "reserved": min(_share(max(reserved, spent), target), 1.0) if reserved else None,
        "now": spent,
        "max": target,
        "number": rounded_up(spent),
        "of": f"of {target:g}" if target is not None else "",
        "percent": f"{math.ceil(_share(spent, target) * 100 - 1e-9)} %" if target else "",
        "note": privacy.get("note") or "",
    }
    cap = privacy.get("dataset_epsilon_cap")
    if cap:
        of_all = privacy.get("dataset_spent_epsilon") or 0.0
        face["dataset"] = {
            "spent": min(_share(of_all, cap), 1.0),
            "text": f"ε {rounded_up(of_all)} of {cap:g}",
        }
    return face


def _facts(privacy: Mapping[str, Any]) -> list[dict[str, str]]:
    """What makes the number mean something: label, value, and a hint for those who ask."""
    mode, relation = privacy.get("mode"), privacy.get("relation")
    rate, noise, bound = (privacy.get(key) for key in ("sample_rate", "noise_multiplier", "max_grad_norm"))
    left, reserved = privacy.get("steps_left"), privacy.get("reserved_epsilon")
    rows = [
        ("δ", scientific(privacy.get("delta")), "The chance that the bound ε does not hold."),
        (
            "Unit",
            f"one {privacy.get('unit') or 'example'}",
            "What is protected: all that one such row changed.",
        ),
        (
            "Relation",
            _RELATIONS.get(str(relation), str(relation or "–")),
            "How two neighbouring data sets differ.",
        ),
        ("Mode", _MODES.get(str(mode), str(mode or "–")), "Only batches the server samples amplify privacy."),
        ("Accountant", str(privacy.get("accountant") or "–").upper(), "How the steps are added up."),
        ("Noise σ", _number(noise, 3), "Noise multiplier: standard deviation over the clipping bound."),
        ("Clip C", _number(bound, 3), "max_grad_norm: the bound on one example's gradient."),
        ("Rate q", _percent(rate), "The share of examples in a step, on average."),
        ("Steps", f"{privacy.get('steps') or 0:,}", "Noisy steps taken."),
        (
            "Steps left",
            "–" if left is None else f"{left:,}",
            "Steps like the last that the budget still allows.",
        ),
    ]
    if reserved:
        rows.insert(
            1, ("Reserved", f"ε {rounded_up(reserved)}", "What ε will be when the running plan is done.")
        )
    return [{"label": label, "value": value, "hint": hint} for label, value, hint in rows]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.3g} %"
