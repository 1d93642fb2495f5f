"""Targets: which column is to be predicted, what kind of task that is, and what the classes are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tg_workbench.datasets.files.limits import Limits
from tg_workbench.datasets.files.profile import Found, Profile
from tg_workbench.datasets.files.values import FileRequest
from tg_workbench.datasets.raw_columns import text_of
from tg_workbench.errors import DatasetInvalid, InvalidRequest

USUAL = ("label", "labels", "target", "targets", "class", "classes", "y", "outcome", "diagnosis", "category")
FEW_CLASSES = 20
TASKS = ("classification", "regression", "text_classification", "language_modeling")


@dataclass(frozen=True, slots=True)
class Target:
    """The column to predict. `numbers` says which class a name is; None: it is a value."""

    name: str
    class_names: tuple[str, ...] | None = None
    class_counts: Mapping[str, int] | None = None

    @property
    def task(self) -> str:
        """Classification or regression."""
        return "regression" if self.class_names is None else "classification"


def task_of(dataset_type: str | None) -> str | None:
    """One of `TASKS`, when the owner's word means one; other words say nothing."""
    word = (
        (dataset_type or "")
        .strip()
        .lower()
        .replace("-", "_")
        .replace(" ", "_")
        .replace("modelling", "modeling")
    )
    if word in ("text", "language_model", "text_generation", "causal_lm"):
        return "language_modeling"
    if word == "sentiment" or (word.startswith("text") and word.endswith("classification")):
        return "text_classification"
    return next((task for task in TASKS[:2] if word.endswith(task)), word if word in TASKS else None)


def guessed(names: Sequence[str]) -> str | None:
    """A column with a usual name, else the last one."""
    by_word = {name.lower(): name for name in reversed(names)}
    usual = next((by_word[word] for word in USUAL if word in by_word), None)
    return usual or (names[-1] if names else None)


def target_of(profile: Profile, request: FileRequest, name: str, limits: Limits) -> Target:
    """What is to be learned of one column. Raises DatasetInvalid and InvalidRequest."""
    found = profile.columns[name]
    if found.type == "empty":
        raise DatasetInvalid("says nothing in any row: there is nothing to predict", f"column {name}")
    if found.gaps:
        raise DatasetInvalid(
            "is missing: every row needs a target", *(profile.place(row, name) for row in found.gaps)
        )
    task = task_of(request.dataset_type)
    is_value = task == "regression" or (
        task is None
        and request.classes is None
        and found.type == "number"
        and not _is_few(found, profile.rows)
    )
    if is_value and not found.numbers:
        raise DatasetInvalid("holds no numbers, and regression predicts numbers", f"column {name}")
    problems = profile.problems(name, as_number=is_value or name in request.ranges)
    if problems:
        raise DatasetInvalid.of(problems)
    if not is_value:
        target = _classes(found, request, limits)
        check_public_names(target.class_names or (), profile.rows, request, f"column {name}")
        return target
    if request.classes is not None:
        raise InvalidRequest("regression has no classes: leave classes out, or choose classification")
    return Target(name)


def has_names_of_rows(classes: int, rows: int) -> bool:
    """Whether classes are so many that most are of one row: that is how ids, people's names or dates look."""
    return classes > 2 and 2 * classes > rows


def check_public_names(names: Sequence[str], rows: int, request: FileRequest, where: str) -> None:
    """Refuse to take for classes of a protected set what looks like names of its rows. Raises DatasetInvalid.

    What classes are called counts as public: it is in the model, its export and its answers.
    """
    if request.is_public or request.classes is not None or not has_names_of_rows(len(names), rows):
        return
    raise DatasetInvalid(
        "has a class for every one or two rows, as names, ids and dates of people have, and what classes are "
        "called counts as public: choose another target, or declare the names of its classes",
        where,
    )


def _is_few(found: Found, rows: int) -> bool:
    """Whether whole numbers are so few that they are likely to be classes."""
    values = found.values
    return found.is_whole and values is not None and len(values) <= min(FEW_CLASSES, max(2, rows // 2))


def _classes(found: Found, request: FileRequest, limits: Limits) -> Target:
    where = f"column {found.name}"
    if found.values is None:
        raise DatasetInvalid(f"has more than {limits.classes:,} classes: choose regression, or fewer", where)
    names = tuple(text_of(value) or "" for value in request.classes or ()) or _sorted(found.values)
    if len(names) > limits.classes:
        raise DatasetInvalid(f"has more than {limits.classes:,} classes: choose regression, or fewer", where)
    if len(names) < 2 or len(found.values) < 2:
        raise DatasetInvalid("has one class only: there is nothing to tell apart", where)
    if any(len(name) > limits.name_length for name in names):
        raise DatasetInvalid(f"has a class of more than {limits.name_length} characters", where)
    return Target(found.name, names, {name: found.values.get(name, 0) for name in names})


def _sorted(values: Mapping[str, int]) -> tuple[str, ...]:
    """Numbers by size, everything else by letter."""
    try:
        return tuple(sorted(values, key=float))
    except ValueError:
        return tuple(sorted(values))
