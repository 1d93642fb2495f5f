"""What can go wrong while something learns: training clients and their operations, and jobs."""

from __future__ import annotations

from tg_workbench.errors.families import InvalidRequest, NotFound, QuotaExceeded, Refused, WorkbenchError


class TrainingClientNotFound(NotFound):
    """No training client has this id."""

    def __init__(self) -> None:
        super().__init__("there is no training client with this id")


class ClientTerminated(Refused):
    """The training client has ended."""

    def __init__(self, client_id: str, reason: str | None = None) -> None:
        super().__init__(
            f"training client {client_id} has ended{f': {reason}' if reason else ''}; create a new one"
        )
        self.reason = reason


class ClientFailed(WorkbenchError):
    """A training client that cannot go on."""


class FutureNotFound(NotFound):
    """No future has this id."""

    def __init__(self) -> None:
        super().__init__("there is no future with this id")


class OperationCancelled(Refused):
    """The operation was cancelled before it began, or its client ended first."""

    def __init__(self, reason: str = "the operation was cancelled before it began") -> None:
        super().__init__(reason)


class QueueFull(WorkbenchError):
    """Too much is waiting already."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} operations are waiting for this training client already; await some of them first"
        )
        self.limit = limit


class UnknownModel(InvalidRequest):
    """A model reference nobody knows."""

    def __init__(self, known: list[str]) -> None:
        super().__init__(
            f"there is no such model: use one of {', '.join(known)} or the path of a local model folder"
        )
        self.known = known


class NotALanguageModel(InvalidRequest):
    """`sample` was asked of a model that does not write text."""

    def __init__(self, model_ref: str) -> None:
        super().__init__(f"{model_ref} does not write text: use predict instead of sample")
        self.model_ref = model_ref


class NoGradient(Refused):
    """`optim_step` with nothing accumulated."""

    def __init__(self) -> None:
        super().__init__("there is no gradient to apply: call forward_backward before optim_step")


class JobNotFound(NotFound):
    """No such job, or it belongs to somebody else."""

    def __init__(self) -> None:
        super().__init__("there is no training job with this id")


class ResultsNotFound(NotFound):
    """A job that has no results: it is not done, or came to none."""

    def __init__(self, status: str) -> None:
        super().__init__(f"there are no results of this training job: it is {status}")
        self.status = status


class JobNotRestartable(Refused):
    """Only a job that failed or was cancelled can go on, while its checkpoint and its dataset are kept."""

    def __init__(self, status: str, kept_days: int | None = None, *, is_dataset_gone: bool = False) -> None:
        if is_dataset_gone:
            told = f"this job is {status}, and its dataset was deleted: submit one on a dataset that is there"
        elif kept_days is not None:
            told = (
                f"this job was {status} more than {kept_days} days ago, and its last checkpoint is not kept "
                "for longer: submit it again, to begin anew"
            )
        else:
            told = f"this job is {status}: only a failed or cancelled job can be restarted"
        super().__init__(told)
        self.status = status


class JobEnded(Refused):
    """There is nothing left to cancel."""

    def __init__(self, status: str) -> None:
        super().__init__(f"this job is {status}: there is nothing to cancel")
        self.status = status


class TooManyJobs(QuotaExceeded):
    """As many jobs of one user wait or run as may. Try again once one of them has ended."""

    def __init__(self, limit: int, retry_after: int) -> None:
        super().__init__("active training jobs", limit)
        self.retry_after = retry_after


class JobFailed(WorkbenchError):
    """A training job came to no model, as whoever waited for it is told. `reason` says why."""

    def __init__(self, job_id: str, reason: str | None) -> None:
        super().__init__(f"training job {job_id} failed: {reason or 'it does not say why'}")
        self.job_id = job_id
        self.reason = reason
