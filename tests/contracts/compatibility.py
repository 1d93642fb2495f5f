"""The compatibility page, written from a test run: which documented operations are served, and what shows it.

`@pytest.mark.operation("S0-05", …)` names the operations that a test calls; `--compatibility FILE` writes the
page when the run is over, under pytest-xdist too: the marks travel with the reports.
"""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

CONTRACTS = {"S0": "tg_tinker", "S1": "aitip", "S2": "qflare", "S3": "deep_learning", "S4": "coordination"}
SOURCE = Path(__file__).parent / "documents" / "contract.yaml"
HEAD = """# Compatibility

Five API documents, operation by operation, as the tests found them: `make compatibility` writes this page
from such a run. **served**: every test of it passed. **failing**: one did not. **untested**: there is a
route, and no test of it ran. **planned**: there is no route yet.
"""
Outcomes = Mapping[str, Mapping[str, bool]]
"""Of each operation, whether its tests passed, by their names."""


@dataclass(frozen=True)
class Operation:
    """One operation of one document."""

    id: str
    document: str
    method: str
    path: str

    @property
    def shape(self) -> tuple[str, str]:
        """Its method, and its path whatever an id in it is called."""
        return self.method, re.sub(r"{\w+}", "{}", self.path)


@cache
def documents() -> dict[str, Any]:
    """`contract.yaml` as it is."""
    read: dict[str, Any] = yaml.safe_load(SOURCE.read_text())
    return read


@cache
def operations() -> dict[str, Operation]:
    """Every documented operation, by its id."""
    members = ("id", "document", "method", "path")
    return {row["id"]: Operation(*(row[name] for name in members)) for row in documents()["operations"]}


@cache
def served() -> frozenset[str]:
    """The ids of the operations that have a route: of their own contract, or a page."""
    from starlette.routing import Route, WebSocketRoute

    from tg_workbench.app import ROUTERS, create_app
    from tg_workbench.contracts.route import ContractRoute
    from tg_workbench.settings import Settings

    with tempfile.TemporaryDirectory(prefix="tgw-") as home:
        app = create_app(Settings(home=Path(home), database_url=f"sqlite:///{home}/t.db"))
    found: dict[tuple[str, str], str | None] = {}
    for route in [*(route for router in ROUTERS for route in router.routes), *app.router.routes]:
        contract = route.contract.name if isinstance(route, ContractRoute) else None
        if isinstance(route, Route):
            for method in route.methods or ():
                found[method, re.sub(r"{\w+(:\w+)?}", "{}", route.path)] = contract
        elif isinstance(route, WebSocketRoute):
            named = re.sub(r"^/ws/\w+$", "/ws/{}", route.path)  # each channel has a route of its own
            found["WS", re.sub(r"{\w+(:\w+)?}", "{}", named)] = None
    return frozenset(
        operation.id
        for operation in operations().values()
        if found.get(operation.shape, "nothing") in (None, CONTRACTS[operation.document])
    )


State = Literal["served", "failing", "untested", "planned"]


def state_of(operation: str, tests: Mapping[str, bool]) -> State:
    """How an operation stands after a run."""
    if operation not in served():
        return "planned"
    if not tests:
        return "untested"
    return "served" if all(tests.values()) else "failing"


def page(outcomes: Outcomes) -> str:
    """The page for a run."""
    states = {name: state_of(name, outcomes.get(name, {})) for name in operations()}
    summary = ["", "| Document | Operations | Served |", "|---|---|---|"]
    sections: list[str] = []
    for document, about in documents()["documents"].items():
        mine = [operation for operation in operations().values() if operation.document == document]
        count = sum(states[operation.id] == "served" for operation in mine)
        summary.append(f"| {document} {about['title']} | {len(mine)} | {count} |")
        sections += ["", f"## {document}: {about['title']}", ""]
        sections += ["| | Operation | Status | Tests that passed |", "|---|---|---|---|"]
        sections += [_row(operation, states, outcomes) for operation in mine]
    return "\n".join([HEAD.rstrip(), *summary, *sections, ""])


def _row(operation: Operation, states: Mapping[str, State], outcomes: Outcomes) -> str:
    tests = outcomes.get(operation.id, {})
    passed = "<br>".join(f"`{name}`" for name in sorted(tests) if tests[name])
    return f"| {operation.id} | `{operation.method} {operation.path}` | {states[operation.id]} | {passed} |"


class Page:
    """Listens to a run, and writes the page at its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, dict[str, bool]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test of an operation went; its cases count as one."""
        if report.when != "call" and not report.failed:
            return
        test = f"{Path(report.location[0]).name}::{report.location[2].partition('[')[0]}"
        for kind, operation in report.user_properties:
            if kind == "operation":
                tests = self.outcomes[str(operation)]
                tests[test] = tests.get(test, True) and report.passed

    def pytest_sessionfinish(self) -> None:
        """Write it."""
        self.path.write_text(page(self.outcomes))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--compatibility FILE`."""
    parser.addoption("--compatibility", metavar="FILE", type=Path, help="write the compatibility page")


def pytest_configure(config: pytest.Config) -> None:
    """Listen, in the one process that hears of every test."""
    path = config.getoption("--compatibility")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Page(path))


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Let the marks travel with the reports."""
    for item in items:
        for marker in item.iter_markers("operation"):
            item.user_properties += [("operation", operation) for operation in marker.args]
