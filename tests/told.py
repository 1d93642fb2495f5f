"""What tests have found out and somebody wants to read: `record_property("told", "…")` is printed at the end.

A print of a test that passes is shown to nobody, and comes from no other process.
"""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each, under the name of its test."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        if getattr(report, "when", None) == "call"
    ]
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {text}"
        for report in reports
        for kind, text in report.user_properties
        if kind == "told"
    ]
    if lines:
        terminalreporter.section("what tests have found")
        for line in lines:
            terminalreporter.line(line)
