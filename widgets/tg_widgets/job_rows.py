"""Jobs as rows of a table: what is known of each, and what of that a reader may be shown.

Pitfalls: loss and accuracy of protected rows, and words about them (logs, reasons, warnings), are not covered
by ε. They are for the data's curator: `row_of(…, published=True)` has none of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tg_widgets.budget_gauge import rounded_up
from tg_widgets.fields import sentence
from tg_workbench.sdk import Dataset
from tg_workbench.sdk.job_views import JobView
from tg_workbench.sdk.values import PrivacyView

MOST_POINTS = 60
"""Of a curve no more can be seen in a row of a table."""
STALE_SECONDS = 4.0
NOT_COVERED = "not covered by ε"
LOSSES = (("val_loss", "val loss"), ("loss", "loss"))
ACCURACIES = (("val_accuracy", "val accuracy"), ("val_r2", "val R²"), ("accuracy", "accuracy"))
COVERED = (("noisy_loss", "loss with noise"),)
"""What of a protected dataset is covered by ε: the loss that noise was added to."""
STOPPABLE, RESTARTABLE, LIVE = ("queued", "running"), ("failed", "cancelled"), ("running", "stopping")


@dataclass(frozen=True, slots=True)
class SeenJob:
    """A job as a list told of it, with the details that were asked for when that had changed."""

    listed: JobView
    detail: JobView | None = None
    privacy: PrivacyView | None = None
    seen_at: float = 0.0

    def is_stale(self, listed: JobView) -> bool:
        """Whether its details are older than what a list tells now."""
        if self.detail is None or _mark(self.listed) != _mark(listed):
            return True
        return listed.status in LIVE and time.monotonic() - self.seen_at > STALE_SECONDS

    @property
    def elapsed_seconds(self) -> float:
        """For how long it has run, up to now while it runs."""
        if self.detail is None:
            return 0.0
        since = time.monotonic() - self.seen_at if self.listed.status in LIVE else 0.0
        return self.detail.elapsed_seconds + since


def row_of(seen: SeenJob, dataset: Dataset | None, *, published: bool = False) -> dict[str, Any]:
    """What a table shows of a job. A dataset that is not known to be public counts as protected."""
    view, detail = seen.listed, seen.detail
    position = {} if detail is None else detail.position
    return {
        "id": view.id,
        "name": view.name or view.model,
        "model": view.model,
        "dataset": view.dataset_id if dataset is None else dataset.name,
        "status": view.status,
        "progress": view.progress,
        "epoch": position.get("epoch") or 0,
        "epochs": position.get("total_epochs") or 0,
        "time": _times(seen),
        "started_at": view.started_at or view.created_at,
        "is_started": view.started_at is not None,
        "reason": "" if published or view.status == "completed" else _reason(view, detail),
        "actions": [] if published else actions_of(view.status),
        "curves": _curves(detail, dataset, published=published),
        "note": "" if published or is_public(dataset, detail) else NOT_COVERED,
        "epsilon": _epsilon(seen, dataset),
    }


def actions_of(status: str) -> list[str]:
    """What its owner can do about a job."""
    stop = ["stop"] if status in STOPPABLE else []
    return [*stop, *(["restart"] if status in RESTARTABLE else []), "log"]


def is_public(dataset: Dataset | None, detail: JobView | None) -> bool:
    """Whether everything that was measured may be seen by everybody."""
    return dataset is not None and dataset.privacy == "public" and not (detail and detail.metrics_note)


def spelled(seconds: float) -> str:
    """A stretch of time as people say it."""
    if 0 <= seconds < 0.5:
        return "under 1 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _mark(view: JobView) -> tuple[Any, ...]:
    """What differs when there is something new to know."""
    return (view.status, view.progress, view.epsilon, view.started_at, view.ended_at, view.model_id)


def _reason(view: JobView, detail: JobView | None) -> str:
    told = (detail.message if detail is not None else None) or view.reason or ""
    return sentence(told.replace("_", " ")) if told else ""


def _times(seen: SeenJob) -> str:
    status, detail = seen.listed.status, seen.detail
    expected = None if detail is None else detail.estimated_seconds
    if status == "queued":
        return f"about {spelled(expected)}" if expected else ""
    if detail is None or seen.listed.started_at is None:
        return ""
    elapsed = spelled(seen.elapsed_seconds)
    is_early = expected is not None and expected > seen.elapsed_seconds
    return f"{elapsed} of about {spelled(expected)}" if status == "running" and is_early else elapsed  # type: ignore[arg-type]


def _curves(detail: JobView | None, dataset: Dataset | None, *, published: bool) -> list[dict[str, Any]]:
    if detail is None:
        return []
    covered_only = published and not is_public(dataset, detail)
    kinds = (COVERED,) if covered_only else (LOSSES, ACCURACIES)
    found = (_curve(detail.history, names) for names in kinds)
    return [curve for curve in found if curve]


def _curve(history: Mapping[str, Sequence[Any]], names: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The first of these measures that was taken, thinned out; empty when none was."""
    for name, label in names:
        values = [float(value) for value in history.get(name) or () if value is not None]
        if values:
            return {"name": name, "label": label, "values": _thinned(values), "last": f"{values[-1]:.3g}"}
    return {}


def _thinned(values: list[float]) -> list[float]:
    """At most `MOST_POINTS` of them, evenly spread; the first and the last stay."""
    if len(values) <= MOST_POINTS:
        return values
    step = (len(values) - 1) / (MOST_POINTS - 1)
    return [values[round(place * step)] for place in range(MOST_POINTS)]


def _epsilon(seen: SeenJob, dataset: Dataset | None) -> dict[str, Any]:
    """What it has spent, of what; or that nothing is promised."""
    asked = (seen.detail.spec.get("dp") or {}) if seen.detail is not None else {}
    privacy, spent = seen.privacy, seen.listed.epsilon
    if spent is None and (privacy is None or not privacy.private):
        is_open = is_public(dataset, seen.detail) and not asked.get("enabled")
        return {"kind": "none" if is_open or (privacy and privacy.guarantee == "none") else "unknown"}
    target = asked.get("target_epsilon") or (privacy.target_epsilon if privacy is not None else None)
    spent = spent or 0.0
    return {
        "kind": "spent",
        "spent": rounded_up(spent),
        "target": "" if target is None else f"{target:g}",
        "share": min(1.0, spent / target) if target else None,
    }
