"""Run the benches, print a table for each, and write every row to `.bench/results.json`.

A bench is a module in this folder whose `main()` returns rows: `bench`, `case`, then either `ours`, `peer`,
`peer_name` and `ratio`, or `value`; and where there is one, `target` (a sentence) and `met`. Name benches on
the command line to run only those; the rows of the others stay as they were.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

import tests.bench

RESULTS = Path(__file__).parents[2] / ".bench" / "results.json"
COLUMNS = ("case", "ours", "peer", "peer_name", "ratio", "value", "target", "met")

Row = dict[str, Any]


def main(names: list[str]) -> None:
    """Run the named benches, or all of them."""
    every = sorted(
        module.name for module in pkgutil.iter_modules(tests.bench.__path__) if module.name != "__main__"
    )
    unknown = [name for name in names if name not in every]
    if unknown:
        sys.exit(f"there is no bench {', '.join(unknown)}; there are: {', '.join(every)}")
    for name in names or every:
        module = importlib.import_module(f"tests.bench.{name}")
        if hasattr(module, "main"):
            rows = [checked(row, name) for row in module.main()]
            write(rows)
            print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}\n{table(rows)}", flush=True)
    print(f"\nwritten to {RESULTS}")


def checked(row: Row, name: str) -> Row:
    """The row, in the one order; refuses a row that nobody could read later."""
    row = {"bench": name, **row}
    strange = set(row) - {"bench", *COLUMNS}
    if strange or "case" not in row or ("ratio" in row) == ("value" in row):
        raise ValueError(f"bench {name}: a row has a case and either a ratio or a value, not {sorted(row)}")
    return {column: row[column] for column in ("bench", *COLUMNS) if column in row}


def write(rows: list[Row]) -> None:
    """Put the rows of one bench in the file in place of its last ones, before the next bench can fail."""
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    benches = {row["bench"] for row in rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps([row for row in before if row["bench"] not in benches] + rows, indent=2) + "\n"
    )


def table(rows: list[Row]) -> str:
    """The rows under their columns, as wide as they need to be."""
    columns = [column for column in COLUMNS if any(column in row for row in rows)]
    lines = [columns] + [[shown(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def shown(value: object) -> str:
    """A cell: four digits of a number, yes or no, or nothing."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "NO"
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)


if __name__ == "__main__":
    main(sys.argv[1:])
