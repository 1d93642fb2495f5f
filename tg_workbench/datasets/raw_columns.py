"""Raw columns: how one column of a table is read, as numbers and without a row's value in any message."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tg_workbench.errors import InvalidBatch

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
BUCKETS = 32
MOST_SAID = 10
"""How many known values of a column a message repeats."""
LARGEST = float(np.finfo(np.float32).max)
DAY = 86_400.0
DECADE, YEAR, NEW_CENTURY = 3_652.5, 365.25, 10_957.0
"""In days; 2000-01-01 lies 10,957 of them after 1970."""
MISSING_WORDS = frozenset(
    {"", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "none", "<NA>", "#N/A"}
)
WHOLE = re.compile(r"-?\d+\.0+")
POINTED = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(?:,? ([0-9]{1,2})(:[0-9]{2}(?::[0-9]{2})?))?")
"""A date as it is written where points are between its parts: the day, the month, the year."""
TRUE_WORDS, FALSE_WORDS = frozenset({"true", "yes"}), frozenset({"false", "no"})


@dataclass(frozen=True, slots=True)
class RawColumn:
    """One column: its name, and whether a value of it may be missing."""

    name: str
    optional: bool = True
    type: ClassVar[str] = ""
    asked: ClassVar[str] = ""

    @property
    def width(self) -> int:
        """How many features it becomes."""
        return 1

    @property
    def told(self) -> str:
        """How it is read, in words."""
        raise NotImplementedError

    @property
    def wanted(self) -> str:
        """What a value of it must be, in words."""
        return self.asked

    def place_of(self, value: Any) -> float | None:
        """One raw value as a number; None: it cannot be in this column."""
        raise NotImplementedError

    def encoded(self, places: Floats) -> Features:
        """Such numbers as features; NaN is missing."""
        raise NotImplementedError

    def read(self, values: Sequence[Any]) -> Floats:
        """Raw values of rows counted from 1 as such numbers. Raises InvalidBatch."""
        return np.array([self._one(value, number) for number, value in enumerate(values, 1)], dtype=float)

    def _one(self, value: Any, number: int) -> float:
        if is_missing(value):
            if not self.optional:
                raise InvalidBatch(
                    f"row {number}, column {self.name}: is missing, and no row that was learned lacks it"
                )
            return math.nan
        place = self.place_of(value)
        if place is None:
            raise InvalidBatch(f"row {number}, column {self.name}: must be {self.wanted}")
        return place


@dataclass(frozen=True, slots=True)
class Number(RawColumn):
    """(value - center) / scale, held between `low` and `high`; then asinh where nothing better is known."""

    scaling: str = "asinh"
    """asinh, range (declared) or standard (mean and deviation of a public set's rows)."""
    center: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None
    type: ClassVar[str] = "number"
    asked: ClassVar[str] = "a finite number, such as 1234.5, and no text"

    @classmethod
    def within(cls, name: str, low: float, high: float, *, optional: bool = True) -> Number:
        """A column whose range was declared: from -1 to 1."""
        return cls(name, optional, "range", (low + high) / 2, (high - low) / 2, low, high)

    @property
    def told(self) -> str:
        """How it is read, in words."""
        ways = {"range": "from its declared range to -1…1", "standard": "minus its mean, by its deviation"}
        return ways.get(self.scaling, "asinh")

    def place_of(self, value: Any) -> float | None:
        """The number itself, if it is finite in training's precision."""
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            return None
        return float(value) if -LARGEST <= value <= LARGEST else None  # some ints are too large for a float


@dataclass(frozen=True, slots=True)
class Switch(RawColumn):
    """True is 1, false -1, missing 0."""

    type: ClassVar[str] = "boolean"
    asked: ClassVar[str] = "true or false, yes or no"

    @property
    def told(self) -> str:
        """How it is read, in words."""
        return "true is 1, false -1"

    def place_of(self, value: Any) -> float | None:
        """1 or -1."""
        if isinstance(value, bool | np.bool_):
            return 1.0 if value else -1.0
        return switch_of(value) if isinstance(value, str) else None

    def encoded(self, places: Floats) -> Features:
        """One feature."""
        return np.nan_to_num(places, nan=0.0).astype(np.float32)[:, None]


@dataclass(frozen=True, slots=True)
class Dated(RawColumn):
    """A date: in decades from 2000 on, and where in the year. Nothing of it is learned."""

    type: ClassVar[str] = "date"
    asked: ClassVar[str] = "a date as YYYY-MM-DD or DD.MM.YYYY, or with a time after it"

    @property
    def width(self) -> int:
        """Decades, sine and cosine of the season."""
        return 3

    @property
    def told(self) -> str:
        """How it is read, in words."""
        return "decades since 2000, and sine and cosine of the day in the year"

    def place_of(self, value: Any) -> float | None:
        """Days since 1970."""
        return days_of(value) if isinstance(value, str) else None

    def encoded(self, places: Floats) -> Features:
        """Three features; all 0 where it is missing."""
        turn = 2 * np.pi * places / YEAR
        sides = ((places - NEW_CENTURY) / DECADE, np.sin(turn), np.cos(turn))
        features: Features = np.nan_to_num(np.stack(sides, axis=1), nan=0.0).astype(np.float32)
        return features


@dataclass(frozen=True, slots=True)
class Named(RawColumn):
    """One feature for each of its known values; another value is refused."""

    values: tuple[str, ...] = ()
    type: ClassVar[str] = "category"
    asked: ClassVar[str] = "one of the values that are known of it"

    @property
    def width(self) -> int:
        """How many values are known."""
        return len(self.values)

    @property
    def wanted(self) -> str:
        """The values themselves, where they are few: whoever asks the model may know them."""
        return f"one of {', '.join(self.values)}" if len(self.values) <= MOST_SAID else self.asked

    @property
    def told(self) -> str:
        """How it is read, in words."""
        return f"one of {len(self.values)} values, one feature each"

    def place_of(self, value: Any) -> float | None:
        """Its place among the known values."""
        text = text_of(value)
        return float(self.values.index(text)) if text in self.values else None

    def encoded(self, places: Floats) -> Features:
        """One-hot; all 0 where it is missing."""
        return one_hot(places, self.width)


@dataclass(frozen=True, slots=True)
class Bucketed(RawColumn):
    """Values hashed into a fixed number of buckets, the same in every process and for every set of rows."""

    buckets: int = BUCKETS
    type: ClassVar[str] = "category"
    asked: ClassVar[str] = "a text, a number, true or false"

    @property
    def width(self) -> int:
        """How many buckets."""
        return self.buckets

    @property
    def told(self) -> str:
        """How it is read, in words."""
        return f"hashed into {self.buckets} buckets"

    def place_of(self, value: Any) -> float | None:
        """The bucket of its value."""
        text = text_of(value)
        if text is None:
            return None
        key = self.name.encode(errors="surrogatepass")[:64]
        digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8, key=key).digest()
        return float(int.from_bytes(digest, "big") % self.buckets)

    def encoded(self, places: Floats) -> Features:
        """One-hot; all 0 where it is missing."""
        return one_hot(places, self.width)


KINDS: dict[tuple[str, ...], type[RawColumn]] = {
    ("number",): Number,
    ("boolean",): Switch,
    ("date",): Dated,
    ("category", "values"): Named,
    ("category", "buckets"): Bucketed,
}


def column_from_json(told: Mapping[str, Any]) -> RawColumn:
    """The column that JSON tells of."""
    more = next((member for member in ("values", "buckets") if member in told), None)
    kind = KINDS[(told["type"], more) if more else (told["type"],)]
    members = {name: value for name, value in told.items() if name != "type"}
    if "values" in members:
        members["values"] = tuple(members["values"])
    return kind(**members)


def one_hot(places: Floats, width: int) -> Features:
    """A 1 at each row's place; nothing where the place is NaN."""
    out = np.zeros((len(places), width), dtype=np.float32)
    known = np.flatnonzero(~np.isnan(places))
    out[known, places[known].astype(np.intp)] = 1.0
    return out


def is_missing(value: Any) -> bool:
    """Whether a raw value is one of the ways to say nothing."""
    if isinstance(value, str):
        return value.strip() in MISSING_WORDS
    return value is None or (isinstance(value, float | np.floating) and math.isnan(value))


def text_of(value: Any) -> str | None:
    """A raw value as the name of a category or a class: 3, 3.0, "3" and "3.0" are one. None: it has none."""
    if isinstance(value, str):
        word = value.strip()
        return word.rstrip("0")[:-1] if WHOLE.fullmatch(word) else word
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating) and math.isfinite(value):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return None


def switch_of(text: str) -> float | None:
    """1 for a word that means true, -1 for one that means false."""
    word = text.strip().lower()
    return 1.0 if word in TRUE_WORDS else -1.0 if word in FALSE_WORDS else None


def days_of(text: str) -> float | None:
    """Days since 1970 of a date; a time without a zone is in UTC."""
    moment = moment_of(text)
    return None if moment is None else moment.timestamp() / DAY


def moment_of(text: str) -> datetime | None:
    """A date in UTC: 2024-12-31 or 31.12.2024, maybe with a time after it. None: it is none.

    With points the day comes first wherever they are used; what 1/2/2024 means depends on the country.
    """
    word = text.strip()
    if turned := POINTED.fullmatch(word):
        day, month, year, hour, minutes = turned.groups()
        word = f"{year}-{month:0>2}-{day:0>2}" + (f"T{hour:0>2}{minutes}" if hour else "")
    if len(word) < 10 or word[4] != "-" or word[7] != "-":
        return None
    try:
        moment = datetime.fromisoformat(word)
    except ValueError:
        return None
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:  # a zone that leads out of the years 1 to 9999
        return None
