"""Curves of a job over its steps, as a Plotly figure: its losses, its measures, and ε below them.

Only what the workbench tells its owner is drawn. Losses and measures of protected rows are raw: the figure
says so, and one for others (`published`) leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from tg_workbench.sdk.events import Event
from tg_workbench.sdk.job_views import JobView
from tg_workbench.sdk.values import PrivacyView

PANELS: Mapping[str, Sequence[str]] = {
    "loss": ("loss", "noisy_loss"),
    "share": ("accuracy", "precision", "recall", "f1"),
    "R²": ("r2",),
    "error": ("mae", "rmse"),
    "perplexity": ("perplexity",),
    "ε": ("epsilon",),
}
"""What stands in one panel, because it has one scale."""
AT_A_CLICK = ("precision", "recall", "f1")
"""Shown once somebody asks for it in the legend."""
COVERED = ("noisy_loss", "epsilon")
"""What ε covers of a protected dataset."""
TRAIN, HELD_OUT, NOISY, BUDGET = "#3b82c4", "#d9822b", "#2a9d8f", "#8f6fc4"
"""Readable on light pages and on dark ones."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MOST_POINTS = 2000
"""Of more steps, each point is the mean of as many as it takes."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: y over steps, and how it is drawn."""

    name: str
    panel: str
    steps: Sequence[float]
    values: Sequence[float | None]
    color: str
    dash: str = "solid"
    mode: str = "lines"
    notes: Sequence[str] = ()
    opacity: float = 1.0
    is_shown: bool = True


@dataclass
class Points:
    """What was told of each step; one that was taken again counts as it was taken last."""

    by_step: dict[int, dict[str, float | None]] = field(default_factory=dict)

    def add(self, events: Iterable[Event]) -> None:
        """Take the points of some events in."""
        for event in events:
            columns = event.data.get("points") if event.type == "progress" else None
            for row, step in enumerate((columns or {}).get("step", ())):
                told = {name: column[row] for name, column in (columns or {}).items() if name != "step"}
                self.by_step[int(step)] = told

    def of(self, name: str, last: int) -> tuple[list[float], list[float | None], int]:
        """A column up to the step `last`, thinned, and of how many steps each point is the mean."""
        found = [
            (step, told[name])
            for step, told in sorted(self.by_step.items())
            if step <= last and told.get(name) is not None
        ]
        wide = -(-len(found) // MOST_POINTS) if found else 1
        parts = [found[first : first + wide] for first in range(0, len(found), wide)]
        means: list[float | None] = [sum(value or 0.0 for _, value in part) / len(part) for part in parts]
        return [float(part[-1][0]) for part in parts], means, wide


def curves_of(view: JobView, points: Points, *, published: bool = False) -> list[Curve]:
    """Every curve that there is anything of, panel by panel."""
    is_raw = view.metrics_note is not None
    curves = [
        curve
        for panel, names in PANELS.items()
        for number, name in enumerate(names)
        if not (published and is_raw and name not in COVERED)
        for curve in _curves(view, points, panel, (number, name))
    ]
    return [curve for curve in curves if any(value is not None for value in curve.values)]


def _curves(view: JobView, points: Points, panel: str, which: tuple[int, str]) -> list[Curve]:
    """The lines of one measure: by step where that is known, by epoch, and of the rows held out."""
    number, name = which
    by_step = _by_step(view, points, panel, name)
    if name == "epsilon" and by_step:
        return by_step
    steps, notes = _ends(view, len(view.history.get("loss", ())))
    dash = DASHES[number % len(DASHES)] if panel not in ("loss", "ε") else "solid"
    by_epoch = [
        Curve(
            name=label,
            panel=panel,
            steps=steps,
            values=list(view.history.get(key, ())),
            color=color,
            dash=dash,
            mode="lines+markers",
            notes=notes,
            is_shown=name not in AT_A_CLICK,
        )
        for key, label, color in (
            (name, _said(name), _color(name)),
            (f"val_{name}", f"{_said(name)}, held out", HELD_OUT),
        )
    ]
    return by_step + by_epoch


def _by_step(view: JobView, points: Points, panel: str, name: str) -> list[Curve]:
    steps, values, wide = points.of(name, int(view.position.get("step") or 0))
    if not steps:
        return []
    if name == "epsilon":
        return [Curve("ε spent", panel, steps, values, _color(name))]
    label = f"{_said(name)} of each batch" if wide == 1 else f"{_said(name)}, mean of {wide} batches"
    return [Curve(label, panel, steps, values, _color(name), opacity=0.35)]


def _ends(view: JobView, epochs: int) -> tuple[list[float], list[str]]:
    """At which steps epochs end, and what is said there."""
    total_steps = int(view.position.get("total_steps") or 0)
    total_epochs = int(view.position.get("total_epochs") or 0)
    each = total_steps / total_epochs if total_steps and total_epochs else 1.0
    last = int(view.position.get("step") or 0) or epochs * each
    ends = [min(each * number, float(last)) for number in range(1, epochs + 1)]
    return ends, [f"epoch {number}" for number in range(1, epochs + 1)]


def _said(name: str) -> str:
    known = {"epsilon": "ε spent", "f1": "F1", "r2": "R²", "mae": "MAE", "rmse": "RMSE"}
    return known.get(name, name.replace("_", " "))


def _color(name: str) -> str:
    return {"epsilon": BUDGET, "noisy_loss": NOISY}.get(name, TRAIN)


def figure_of(view: JobView, privacy: PrivacyView, points: Points, *, published: bool = False) -> Any:
    """The figure: one panel for each scale, one axis of steps below them all."""
    from plotly.subplots import make_subplots

    curves = curves_of(view, points, published=published)
    panels = [panel for panel in PANELS if any(curve.panel == panel for curve in curves)] or ["loss"]
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for curve in curves:
        row = 1 + panels.index(curve.panel)
        figure.add_scatter(
            x=curve.steps,
            y=curve.values,
            name=curve.name,
            mode=curve.mode,
            line={"color": curve.color, "dash": curve.dash, "width": 2},
            opacity=curve.opacity,
            text=list(curve.notes) or None,
            hovertemplate="step %{x}" + (", %{text}" if curve.notes else "") + ": %{y:.4g}",
            visible=True if curve.is_shown else "legendonly",
            legend=_legend(row),
            row=row,
            col=1,
        )
    if "ε" in panels and privacy.target_epsilon is not None:
        row = 1 + panels.index("ε")
        figure.add_hline(
            privacy.target_epsilon,
            line={"dash": "dash", "color": BUDGET, "width": 1},
            annotation_text=f"its budget, {privacy.target_epsilon:g}",
            annotation_position="bottom left",
            row=row,
            col=1,
        )
    if not curves:
        figure.add_annotation(
            text="nothing to show yet", showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper"
        )
    return _laid_out(figure, view, panels, _subtitle(view, privacy, published=published))


def _laid_out(figure: Any, view: JobView, panels: Sequence[str], subtitle: str) -> Any:
    title = f"{escape(view.name)}: {view.status}"
    figure.update_layout(
        title={"text": title, "subtitle": {"text": subtitle}, "x": 0, "xref": "paper"},
        height=150 + 190 * len(panels),
        margin={"l": 70, "r": 20, "t": 110, "b": 50},
        hovermode="x unified",
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font_color="#808080",
        hoverlabel={"bgcolor": "#fff", "font": {"color": "#333"}},
    )
    figure.update_xaxes(gridcolor="rgba(128,128,128,0.3)", zeroline=False, rangemode="tozero")
    figure.update_yaxes(gridcolor="rgba(128,128,128,0.3)", zeroline=False, rangemode="tozero")
    for row, panel in enumerate(panels, start=1):
        figure.update_yaxes(title_text=panel, row=row, col=1)
        top = figure.layout["yaxis" if row == 1 else f"yaxis{row}"].domain[1]
        beside = {"x": 1.02, "xanchor": "left", "y": top, "yanchor": "top"}
        figure.update_layout({_legend(row): beside})
    figure.update_xaxes(title_text="steps", row=len(panels), col=1)
    return figure


def _subtitle(view: JobView, privacy: PrivacyView, *, published: bool) -> str:
    """What it promises, and what of it that promise does not cover."""
    notes = [str(privacy), *([view.metrics_note] if view.metrics_note and not published else [])]
    return "<br>".join(map(escape, notes))


def _legend(row: int) -> str:
    """Each panel has its own, beside it."""
    return "legend" if row == 1 else f"legend{row}"
