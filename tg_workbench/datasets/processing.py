"""Processing: how it ends that a worker has looked at a file. Exactly once, behind its fence, in one go."""

from __future__ import annotations

from sqlmodel import Session

from tg_workbench.datasets.catalogue import take_rows, tell
from tg_workbench.datasets.files import Prepared
from tg_workbench.datasets.populations import Populations
from tg_workbench.datasets.specs import FileSpec
from tg_workbench.datasets.tables import Dataset
from tg_workbench.events import Events, StatusChanged
from tg_workbench.execution import Fence, release_work


class Processing:
    """One dataset's file, while a worker looks at it."""

    def __init__(self, session: Session, fence: Fence) -> None:
        self.session = session
        self.fence = fence

    def dataset(self) -> Dataset | None:
        """The dataset, unless it was deleted or is done: then the work is let go. Raises Fenced."""
        self.fence.hold(self.session)
        dataset = self.session.get(Dataset, self.fence.work_id)
        if dataset is not None and dataset.status == "processing" and dataset.deleted_at is None:
            return dataset
        release_work(self.session, self.fence.work_id)
        return None

    def succeed(self, prepared: Prepared) -> Dataset | None:
        """It is ready; None when it was deleted meanwhile.

        Raises Fenced, and what `Populations.settle` does: then nothing has changed, and it has to `fail`.
        """
        dataset = self.dataset()
        if dataset is None or dataset.asked is None:
            return None
        Populations(self.session).settle(dataset, FileSpec.from_json(dataset.asked), prepared)
        take_rows(dataset, prepared)
        found = prepared.inspection
        dataset.file_format, dataset.target = found.file_format, found.target
        dataset.dataset_type = dataset.dataset_type or found.task
        dataset.profile, dataset.encoding = found.as_json(), prepared.encoding.as_json()
        self._end(dataset, "ready")
        return dataset

    def fail(self, reason: str) -> None:
        """It could not be read. Raises Fenced."""
        dataset = self.dataset()
        if dataset is not None:
            self._end(dataset, "failed", reason)

    def _end(self, dataset: Dataset, status: str, reason: str | None = None) -> None:
        dataset.status, dataset.reason = status, reason
        self.session.add(dataset)
        Events(self.session).record(dataset.id, StatusChanged(status=status, step=0, reason=reason))
        tell(self.session, dataset)
        release_work(self.session, dataset.id)
