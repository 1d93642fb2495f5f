"""What can go wrong with rows: datasets, their files, uploads and batches."""

from __future__ import annotations

from collections.abc import Sequence

from tg_workbench.errors.families import DeadlineExceeded, InvalidRequest, NotFound, Refused, WorkbenchError


class DatasetNotFound(NotFound):
    """No dataset has this id."""

    def __init__(self) -> None:
        super().__init__("there is no dataset with this id")


class DatasetInvalid(InvalidRequest):
    """An uploaded file that cannot be learned from. It says where, and never what stands there.

    `where` names rows, columns or files that all have this problem; none: the file as a whole.
    """

    MOST = 20

    def __init__(self, problem: str, *where: str) -> None:
        self.problems = [{"where": place, "problem": problem} for place in where[: self.MOST] or ("file",)]
        super().__init__(self._told(len(where)))

    @classmethod
    def of(cls, problems: Sequence[tuple[str, str]]) -> DatasetInvalid:
        """Several problems at once, each with its place: (where, problem)."""
        place, problem = problems[0]
        error = cls(problem, place)
        error.problems = [{"where": where, "problem": what} for where, what in problems[: cls.MOST]]
        error.args = (error._told(len(problems)),)
        return error

    def _told(self, found: int) -> str:
        first = self.problems[0]
        more = f" (and {found - 1} more)" if found > 1 else ""
        return f"{first['where']}: {first['problem']}{more}"


class DatasetNotReady(Refused):
    """A dataset that is still being processed, or whose file was no good."""

    def __init__(self, dataset_id: str, status: str, reason: str | None = None) -> None:
        why = f"could not be read: {reason}" if status == "failed" else "is still being processed"
        super().__init__(f"dataset {dataset_id} {why}")
        self.status = status


class DatasetInUse(Refused):
    """A dataset that a live training client, or a job that is not over, still reads."""

    def __init__(self, dataset_id: str, clients: int) -> None:
        super().__init__(
            f"dataset {dataset_id} is used by {clients} job(s) or training client(s): "
            "stop those jobs, and delete those clients, first"
        )
        self.clients = clients


class InvalidBatch(InvalidRequest):
    """A batch that cannot be trained on: empty, not finite, of the wrong shape, or from another tokenizer."""


class RowInvalid(InvalidBatch):
    """A row that a model cannot read; `where` is its place, and the column's, in the request."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.problems = [{"where": f"body.{where}", "problem": problem}]


class UploadNotFound(NotFound):
    """No upload has this id, or no longer."""

    def __init__(self) -> None:
        super().__init__("there is no upload with this id, or no longer: begin a new one")


class UploadBusy(Refused):
    """Somebody else is sending a piece of this upload now."""

    def __init__(self) -> None:
        super().__init__("another request is sending a piece of this upload: let it end first")


class UploadOffsetWrong(Refused):
    """A piece of an upload that does not begin where the last one ended."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"{offset} bytes of this upload are here: go on from there")
        self.offset = offset


class UploadTooSlow(DeadlineExceeded):
    """What is sent comes so slowly that it keeps others from sending."""

    def __init__(self, bytes_per_second: int) -> None:
        WorkbenchError.__init__(
            self,
            f"it comes too slowly, or stopped coming: {bytes_per_second} bytes a second are the least. "
            "An upload in pieces goes on from where it is",
        )


class ValidationUnfinished(DeadlineExceeded):
    """A file could not be looked at in time. Nothing of it was kept."""

    def __init__(self) -> None:
        WorkbenchError.__init__(
            self, "the file could not be looked at in time: upload it as a dataset, which may take as long"
        )
