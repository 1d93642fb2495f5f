"""What `wb.services` is: where inference services are made, listed and looked up."""

from __future__ import annotations

from tg_workbench.errors import ServiceNotFound
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.models import SERVICE, SERVICES, Model, Service
from tg_workbench.sdk.paths import path_of_one

PAGE = 100


class Services:
    """The inference services of a workbench."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        model: Model | str,
        name: str,
        *,
        min_replicas: int = 0,
        max_replicas: int = 1,
        runtime: str = "onnxruntime",
        gpu_count: int = 0,
    ) -> Service:
        """A service, stopped until `start()`. Its name is part of an address: letters, digits, `._-`.

        Raises ModelNotFound, Refused for a name that is taken, InvalidRequest.
        """
        return Service.made(
            self._connection,
            model if isinstance(model, str) else model.model_id,
            name,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            runtime=runtime,
            gpu_count=gpu_count,
        )

    def list(self, *, limit: int = 50, offset: int = 0) -> list[Service]:
        """Some of them, newest first."""
        found: list[Service] = []
        for page in range(1, (offset + limit) // PAGE + 2):
            answer = self._connection.get(SERVICES, {"page": page, "page_size": PAGE})
            items = answer.get("data", [])
            found += [Service.from_wire(item, self._connection) for item in items]
            if len(items) < PAGE:
                break
        return found[offset : offset + limit]

    def get(self, name: str) -> Service:
        """The service of this name or id. Raises ServiceNotFound."""
        answer = self._connection.get(path_of_one(SERVICE, name, ServiceNotFound))
        return Service.from_wire(answer, self._connection)

    def __getitem__(self, name: str) -> Service:
        """The same, as `wb.services[name]`."""
        return self.get(name)
