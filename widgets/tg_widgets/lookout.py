"""Looks, from a thread, at what there is on a workbench: its clients, its datasets, a client's checkpoints.

It begins when a page shows the panel, not when the panel is made, and only ever reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tg_widgets.watch import Watch
from tg_workbench.errors import CallFailed, NotFound, WorkbenchError
from tg_workbench.sdk import TrainingClient, Workbench
from tg_workbench.sdk.datasets import Dataset
from tg_workbench.sdk.values import Checkpoint

_SECONDS_BETWEEN_LOOKS = 3.0
_UNEXPECTED = "something unexpected went wrong; the kernel's log has the details"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was there at the last look. `connection` is looking, connected or unreachable."""

    connection: str = "looking"
    problem: str = ""
    clients: list[TrainingClient] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def client_rows(self) -> list[dict[str, Any]]:
        """The clients, for a list to choose from."""
        return [
            {
                "id": view.training_client_id,
                "model_ref": view.model_ref,
                "status": view.status,
                "step": view.step,
            }
            for view in (client.view for client in self.clients)
        ]

    def dataset_rows(self) -> list[dict[str, Any]]:
        """The datasets, with what a form says of each."""
        return [
            {
                "id": dataset.dataset_id,
                "name": dataset.name,
                "text": str(dataset),
                "is_public": dataset.privacy == "public",
                "delta": dataset.delta,
                "size": dataset.size,
            }
            for dataset in self.datasets
        ]

    def checkpoint_rows(self) -> list[dict[str, Any]]:
        """The checkpoints, newest first."""
        return [
            {
                "id": checkpoint.artifact_id,
                "step": checkpoint.step,
                "automatic": checkpoint.automatic,
                "created_at": checkpoint.created_at,
            }
            for checkpoint in self.checkpoints
        ]


class Lookout:
    """Tells `tell` what it sees when that has changed; `workbench` None: the one of this notebook."""

    def __init__(
        self, workbench: Workbench | None, tell: Callable[[Seen], object], *, clients_only: bool = False
    ) -> None:
        """`clients_only`: it is for readers, who need not know which datasets and checkpoints there are."""
        self._clients_only = clients_only
        self.seen = Seen()
        self.client: TrainingClient | None = None
        self._workbench = workbench
        self._tell = tell
        self._ignored: set[str] = set()
        self._watch = Watch(self._take_a_look, "tg-panel-lookout")

    def start(self) -> None:
        """Begin to look, and go on until `rest` or `close`."""
        self._watch.start()

    def rest(self) -> None:
        """Look no more until `start`: nobody sees the panel."""
        self._watch.rest()

    def look_now(self) -> None:
        """Do not wait for the next look."""
        self._watch.look_now()

    def close(self) -> None:
        """Look no more."""
        self._watch.close()

    def workbench(self) -> Workbench:
        """The workbench it looks at. Raises CallFailed, saying how to start one, when there is none."""
        if self._workbench is None:
            self._workbench = Workbench()
        return self._workbench

    def ignore_present(self) -> None:
        """Do not offer to follow, of its own accord, the clients that are there now."""
        self._ignored |= {client.id for client in self.seen.clients}

    def newest_at_work(self) -> TrainingClient | None:
        """The newest client that has not ended and is not ignored."""
        live = (client for client in self.seen.clients if not client.view.ended)
        return next((client for client in live if client.id not in self._ignored), None)

    def _take_a_look(self) -> float:
        """Look, and tell; in how many seconds to look again.

        What nobody expected is told in general, and goes where a thread's tracebacks go.
        """
        seen = replace(self.seen, connection="unreachable", problem=_UNEXPECTED)
        try:
            seen = self._look()
        except WorkbenchError as failure:
            seen = replace(seen, problem=str(failure))
        finally:
            self.seen = seen
            if not self._watch.is_closed:
                self._tell(seen)
        return _SECONDS_BETWEEN_LOOKS

    def _look(self) -> Seen:
        workbench = self.workbench()
        workbench.health()  # asks once and fails at once, where the other calls would be patient
        client = self.client
        return Seen(
            connection="connected",
            clients=workbench.training_clients.list(),
            datasets=[] if self._clients_only else workbench.datasets.list(),
            checkpoints=[] if client is None or self._clients_only else _checkpoints(client),
        )


def _checkpoints(client: TrainingClient) -> list[Checkpoint]:
    try:
        return client.checkpoints()
    except (NotFound, CallFailed):
        return []
