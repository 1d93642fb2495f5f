"""A dataset at a glance: its version, its privacy policy and what is spent of it, its columns and classes.

Pitfalls: of a protected dataset what its columns hold (ranges, missing values, how many there are of a class)
is not covered by ε. It is for the owner; on a page for others use `published=True`, which never sends it.
Rows are shown of public datasets only, to nobody of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tg_widgets import assets
from tg_widgets.budget_gauge import rounded_up, scientific
from tg_widgets.fields import sentence
from tg_widgets.live_card import LiveCard
from tg_workbench.sdk import Dataset, Workbench
from tg_workbench.sdk.catalogue import Datasets
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.datasets import FAILED, PROCESSING, READY
from tg_workbench.sdk.uploads import readable

SECONDS_WHILE_PROCESSING, SECONDS_WHILE_QUIET = 1.0, 10.0
MOST_COLUMNS, MOST_CLASSES, MOST_NAMED, MOST_ROWS = 200, 50, 12, 10
NOT_COVERED = "for you alone: not covered by ε"
_RELATIONS = {"add_or_remove_one": "add or remove one", "replace_one": "replace one"}


class DatasetCard(LiveCard):
    """Shows a dataset, given whole, by its id or by its name: then the version that is the newest at first.

    `published` shows nothing of its rows but their number.
    """

    _esm = assets.script("dataset_card")
    _css = assets.style("live_card.css", "dataset_card.css")

    def __init__(
        self, dataset: Dataset | str, workbench: Workbench | None = None, *, published: bool = False
    ) -> None:
        self.published = published
        self._dataset_id = dataset if isinstance(dataset, str) else dataset.id
        self._dataset = None if isinstance(dataset, str) else dataset
        self._profile: Mapping[str, Any] | None = None
        self._preview: Sequence[Mapping[str, Any]] = ()
        super().__init__(workbench if workbench is not None or isinstance(dataset, str) else dataset)

    @property
    def dataset(self) -> Dataset | None:
        """The dataset as it was last seen."""
        return self._dataset

    def _look(self, connection: Connection) -> float:
        room = Datasets(connection)
        dataset = room[self._dataset_id] if self._dataset is None else room.get(self._dataset.id)
        profile, preview = self._profile, self._preview
        if dataset.status == READY and profile is None:
            profile = dataset.profile or {}
            preview = dataset.preview() if dataset.privacy == "public" else ()
        with self._lock:
            self._dataset, self._profile, self._preview = dataset, profile, preview
        return SECONDS_WHILE_PROCESSING if dataset.status == PROCESSING else SECONDS_WHILE_QUIET

    def _face(self) -> Mapping[str, Any]:
        if self._dataset is None:
            return {"id": self._dataset_id, "published": self.published}
        told = face_of(self._dataset, self._profile or {}, self._preview, published=self.published)
        return {**told, "published": self.published}


def face_of(
    dataset: Dataset,
    profile: Mapping[str, Any],
    preview: Sequence[Mapping[str, Any]],
    *,
    published: bool = False,
) -> dict[str, Any]:
    """What a card shows of a dataset. What is not known to be public counts as protected."""
    is_public = dataset.privacy == "public"
    is_open = is_public or not published
    return {
        "id": dataset.id,
        "name": dataset.name,
        "version": dataset.version,
        "status": dataset.status,
        "is_public": is_public,
        "description": dataset.description or "",
        "summary": _summary(dataset, is_open=is_open),
        "problem_with": _problem(dataset.reason, is_open=is_open) if dataset.status == FAILED else {},
        "facts": _policy(dataset),
        "gauge": {} if is_public else _gauge(dataset),
        "columns": [_column(one, dataset.target, is_open=is_open) for one in _columns(profile)],
        "more_columns": max(0, len(profile.get("columns") or ()) - MOST_COLUMNS),
        "classes": _classes(profile.get("class_counts") or {}, is_open=is_open),
        "warnings": [sentence(str(each)) for each in profile.get("warnings") or ()] if is_open else [],
        "note": NOT_COVERED if not is_public and not published else "",
        "is_open": is_open,
        "preview": _shown_rows(preview) if is_public else {},
    }


def _columns(profile: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    columns: Sequence[Mapping[str, Any]] = profile.get("columns") or ()
    return columns[:MOST_COLUMNS]


def _summary(dataset: Dataset, *, is_open: bool) -> list[str]:
    """What it is, in a few words. How many rows there are counts as public; whose they are does not."""
    told = [dataset.dataset_type or "", dataset.file_format or ""]
    if dataset.status == READY:
        owners = "" if dataset.units is None or not is_open else f" of {dataset.units:,} units"
        told.insert(0, f"{dataset.size:,} rows{owners}")
    if is_open and dataset.file_size is not None:
        told.append(readable(dataset.file_size))
    return [each.replace("_", " ") for each in told if each]


def _problem(reason: str | None, *, is_open: bool) -> dict[str, str]:
    """What is wrong with its file, and where."""
    if not is_open:
        return {"where": "", "text": "Its file could not be read."}
    where, colon, problem = (reason or "its file could not be read").partition(": ")
    if not colon or len(where) > 300:
        return {"where": "", "text": sentence(f"{where}{colon}{problem}")}
    return {"where": where[:1].upper() + where[1:], "text": sentence(problem)}


def _policy(dataset: Dataset) -> list[list[str]]:
    """Labels, values, and what they mean."""
    if dataset.privacy == "public":
        return [["Target", dataset.target or "–", "The column to predict."]]
    cap = "–" if dataset.epsilon_cap is None else f"ε {dataset.epsilon_cap:g}"
    shared = dataset.shared_budget[:1].upper() + dataset.shared_budget[1:]
    return [
        ["Unit", f"one {dataset.unit}", "What is protected: all that one of them changed."],
        ["Relation", _RELATIONS.get(dataset.relation, dataset.relation), "How two neighbouring sets differ."],
        ["δ", scientific(dataset.delta), "The chance that the bound ε does not hold."],
        ["Cap", cap, "What all training on it together may spend."],
        *([["Budget", shared, "What is spent on them counts together."]] if shared else []),
        ["Target", dataset.target or "–", "The column to predict."],
    ]


def _gauge(dataset: Dataset) -> dict[str, Any]:
    """What is spent of the cap; rounded against itself."""
    cap, spent = dataset.epsilon_cap, dataset.spent_epsilon or 0.0
    share = min(1.0, spent / cap) if cap else None
    level = "calm" if share is None or share < 0.6 else "watchful" if share < 0.85 else "nearly_spent"
    left = "" if cap is None else f"{max(0.0, int((cap - spent) * 100 + 1e-9) / 100):.2f}"
    return {
        "spent": rounded_up(spent),
        "cap": "" if cap is None else f"{cap:g}",
        "left": left,
        "share": share,
        "level": level,
    }


def _column(column: Mapping[str, Any], target: str | None, *, is_open: bool) -> dict[str, Any]:
    """A column: its name and type are treated as public, what it holds is not."""
    name = str(column.get("name"))
    told: dict[str, Any] = {"name": name, "type": column.get("type") or "", "is_target": name == target}
    if is_open:
        told |= {"missing": column.get("missing") or 0, "holds": _holds(column)}
    return told


def _holds(column: Mapping[str, Any]) -> str:
    """What is in a column, in a few words."""
    low, high, mean, unique = (column.get(key) for key in ("minimum", "maximum", "mean", "unique"))
    if low is not None and high is not None:
        middle = "" if mean is None else f", mean {mean:.4g}"
        return f"{low:.6g} to {high:.6g}{middle}"
    values = column.get("values")
    if values:
        named = ", ".join(str(value) for value in values[:MOST_NAMED])
        more = len(values) - MOST_NAMED
        return f"{named} and {more} more" if more > 0 else named
    return "" if unique is None else f"{unique} different values"


def _classes(counts: Mapping[str, int], *, is_open: bool) -> list[dict[str, Any]]:
    """The classes; their names are treated as public, how often they are there is not."""
    if not is_open:
        return [{"name": name} for name in sorted(counts)[:MOST_CLASSES]]
    total = sum(counts.values()) or 1
    ordered = sorted(counts.items(), key=lambda each: -each[1])[:MOST_CLASSES]
    return [{"name": name, "count": count, "share": count / total} for name, count in ordered]


def _shown_rows(preview: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first rows, as text."""
    if not preview:
        return {}
    names = list(preview[0])[:MOST_COLUMNS]
    cells = [
        ["" if row.get(name) is None else str(row.get(name)) for name in names] for row in preview[:MOST_ROWS]
    ]
    return {"columns": names, "rows": cells}
