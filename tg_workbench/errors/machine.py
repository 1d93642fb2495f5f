"""What can go wrong with the machine: its settings, its processes, its disk, its database."""

from __future__ import annotations

from tg_workbench.errors.families import WorkbenchError


class InvalidSetting(WorkbenchError):
    """An environment variable has a value nobody can use."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"{name} is {value!r}; it must be {expected}")
        self.name = name


class WorkerLost(WorkbenchError):
    """The process that held a training client ended in the middle of an operation."""

    def __init__(self, reason: str, resumed_from: int | None = None) -> None:
        where = (
            "" if resumed_from is None else f"; the client goes on from its checkpoint at step {resumed_from}"
        )
        super().__init__(f"the worker was lost ({reason}){where}. Spent privacy budget stays spent")
        self.reason = reason
        self.resumed_from = resumed_from


class Interrupted(WorkbenchError):
    """What was going on was broken off, because whoever did it has to leave. Nothing has changed."""


class StorageFull(WorkbenchError):
    """The disk has no room. Nothing was half written."""

    def __init__(self) -> None:
        super().__init__(
            "the disk is full: nothing was saved and nothing was lost; free some space and try again"
        )


class DatabaseUnavailable(WorkbenchError):
    """The database does not answer."""

    def __init__(self) -> None:
        super().__init__("database unavailable")


class DatabaseTooNew(WorkbenchError):
    """The database's tables are those of a later version."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the database {path} was made by a newer tg-workbench: use that version, or another DATABASE_URL"
        )


class AuditUnreadable(WorkbenchError):
    """There is no audit log where one was looked for."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is no database of a workbench with an audit log")
