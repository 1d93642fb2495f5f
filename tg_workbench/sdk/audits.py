"""An audit: what a mechanism or a model was measured to reveal at least, beside what was promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from tg_workbench.sdk.values import Value

METHODS: Mapping[str, str] = {
    "mechanism": "gradient canaries",
    "canaries": "black-box canaries",
    "lira": "LiRA on rows",
}
PROMISED, MEASURED = "#3b82c4", "#d9822b"
"""Readable on light pages and on dark ones."""
_WIDTH, _LEFT, _RIGHT = 640, 150, 70


@dataclass(frozen=True, slots=True)
class Audit(Value):
    """How much was revealed at least. As the last line of a cell it draws itself.

    `epsilon_lower_bound` is not ε: the truth lies anywhere from it up to `epsilon`, which the accountant
    proves. A lower bound above `epsilon` (`broken`) means that something does not do what it promises.
    """

    method: str
    epsilon_lower_bound: float
    confidence: float
    delta: float
    epsilon: float | None = None
    """What the accountant proves of just what was audited; None: there is no guarantee."""
    gap: float | None = None
    """`epsilon` minus `epsilon_lower_bound`."""
    canaries: int | None = None
    rows: int | None = None
    twins: int | None = None
    steps: int = 0
    guesses: int = 0
    correct: int = 0
    auc: float | None = None
    """How often one that was there looks more like it than one that was not; 0.5 by chance."""
    tpr_at_fpr_0_1_percent: float | None = None
    tpr_at_fpr_1_percent: float | None = None
    epsilon_if_rows_were_independent: float | None = None
    """By Clopper and Pearson, as the literature has it. Rows of one model are not independent: no proof."""
    covered_by_epsilon: bool = True
    """False: these numbers come from private rows and are for their owner only."""
    note: str = ""

    @property
    def broken(self) -> bool:
        """Whether the bound passes what was promised: then, with `confidence`, the promise does not hold."""
        return self.gap is not None and self.gap < 0

    def __str__(self) -> str:
        """The audit in one sentence."""
        least = f"at least ε = {self.epsilon_lower_bound:.2f}"
        sure = f"with {self.confidence * 100:.6g} % confidence at δ = {self.delta:.2g}"
        text = f"{METHODS.get(self.method, self.method)}: {least} {sure}"
        if self.epsilon is None:
            return f"{text}; nothing was promised"
        verdict = "BROKEN: more than the promised" if self.broken else "promised is at most"
        return f"{text}; {verdict} ε = {self.epsilon:.2f}"

    def plot(self, *others: Audit) -> Any:
        """A Plotly figure: the promised ε, the measured lower bound and the gap, of this audit and others."""
        import plotly.graph_objects as go

        audits = (self, *others)
        names = [_name(number, audit, audits) for number, audit in enumerate(audits)]
        figure = go.Figure()
        figure.add_bar(
            x=names,
            y=[audit.epsilon for audit in audits],
            name="ε, proved by the accountant",
            marker_color=PROMISED,
        )
        figure.add_bar(
            x=names,
            y=[audit.epsilon_lower_bound for audit in audits],
            name="lower bound, measured",
            marker_color=MEASURED,
        )
        for name, audit in zip(names, audits, strict=True):
            top = max(audit.epsilon or 0.0, audit.epsilon_lower_bound)
            figure.add_annotation(x=name, y=top, text=_gap(audit), showarrow=False, yshift=12)
        figure.update_layout(
            title="At least this, at most that",
            yaxis_title="ε",
            barmode="group",
            template="none",
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font_color="#808080",
            legend={"orientation": "h", "y": -0.15},
        )
        figure.update_yaxes(rangemode="tozero", gridcolor="rgba(128,128,128,0.3)")
        return figure

    def _repr_html_(self) -> str:
        """In a notebook: two bars, the gap between them, and the sentence. No script, no other address."""
        top = max(self.epsilon or 0.0, self.epsilon_lower_bound, 1e-9)
        promised = "no guarantee" if self.epsilon is None else f"{self.epsilon:.2f}"
        least, most = self.epsilon_lower_bound / top, (self.epsilon or 0.0) / top
        drawn = _bar(8, "lower bound", MEASURED, least, f"{self.epsilon_lower_bound:.2f}")
        drawn += _bar(40, "ε promised", PROMISED, most, promised)
        drawn += _span(74, least, most, _gap(self)) if self.epsilon is not None else ""
        return (
            f'<figure style="margin:0;max-width:{_WIDTH}px">'
            f'<svg viewBox="0 0 {_WIDTH} 96" role="img" aria-label="{escape(str(self))}" '
            f'style="width:100%;font-family:sans-serif">{drawn}</svg>'
            f'<figcaption style="font-size:13px">{escape(str(self))}.'
            f"<br>{escape(self._details())}</figcaption></figure>"
        )

    def _details(self) -> str:
        """What it rests on."""
        parts = [f"{self.correct} of {self.guesses} guesses right"] if self.guesses else []
        parts += [f"{self.canaries} canaries"] if self.canaries else []
        parts += [f"{self.twins} twins, {self.rows} rows"] if self.twins else []
        parts += [f"{self.steps} steps"] if self.steps else []
        parts += [] if self.covered_by_epsilon else ["NOT covered by ε: for the owner of the rows only"]
        return "; ".join([", ".join(parts), self.note] if self.note else [", ".join(parts)])


def _gap(audit: Audit) -> str:
    if audit.gap is None:
        return "no promise to hold it against"
    return f"broken by {-audit.gap:.2f}" if audit.broken else f"gap {audit.gap:.2f}"


def _name(number: int, audit: Audit, audits: tuple[Audit, ...]) -> str:
    """The method; numbered where it comes more than once."""
    name = METHODS.get(audit.method, audit.method)
    return name if sum(other.method == audit.method for other in audits) == 1 else f"{number + 1}. {name}"


def _span(y: int, start: float, end: float, label: str) -> str:
    """A bracket from one bar's end to the other's."""
    wide = _WIDTH - _LEFT - _RIGHT
    left, right = (_LEFT + wide * share for share in sorted((start, end)))
    line = f"M{left:.1f} {y - 4}v8M{right:.1f} {y - 4}v8M{left:.1f} {y}H{right:.1f}"
    return (
        f'<path d="{line}" stroke="currentColor" fill="none" opacity="0.7"/>'
        f'<text x="{(left + right) / 2:.1f}" y="{y + 16}" text-anchor="middle" fill="currentColor" '
        f'font-size="12">{escape(label)}</text>'
    )


def _bar(y: int, label: str, color: str, share: float, value: str) -> str:
    width = (_WIDTH - _LEFT - _RIGHT) * share
    return (
        f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end" fill="currentColor" font-size="14">'
        f"{escape(label)}</text>"
        f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="22" rx="2" fill="{color}"/>'
        f'<text x="{_LEFT + width + 8:.1f}" y="{y + 15}" fill="currentColor" font-size="14">'
        f"{escape(value)}</text>"
    )
