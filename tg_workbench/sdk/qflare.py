"""QFLARE's own client, as its document has it: it answers with the document's JSON.

    import sys

    import tg_workbench.sdk.qflare

    sys.modules["qflare"] = tg_workbench.sdk.qflare     # this line alone, and programs written for it run:

    from qflare import QFLAREClient

    client = QFLAREClient(base_url="http://localhost:8000", api_key="tgw-…")
    devices = client.devices.list()
    round_id = client.fl.start_round({"model_config": {"architecture": "cnn"}})

Everything more is in `Workbench`: `wb.devices`, `wb.federation`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from tg_workbench.errors import DeadlineExceeded
from tg_workbench.sdk.address import Address
from tg_workbench.sdk.connection import Body, Connection

__all__ = ["QFLAREClient"]
API = "/api/v1"
LOOK_SECONDS = 0.5
Told = dict[str, Any]


class QFLAREClient:
    """A client of one server. `devices`, `fl` and `keys` are the document's parts."""

    def __init__(self, base_url: str, api_key: str, *, timeout: float = 60.0) -> None:
        """Asks nobody yet. `timeout` is how long a call is tried again while the server does not answer.

        Raises CallFailed for what is no address or no key.
        """
        self._connection = Connection(Address.find(base_url, api_key, environ={}), patience=timeout)
        self.devices = _Devices(self._connection)
        self.fl = _FederatedLearning(self._connection)
        self.keys = _Keys(self._connection)

    def status(self) -> Told:
        """Detailed system status: `federated_learning`, `security` and `performance`."""
        return self._connection.get(f"{API}/status")

    def health(self) -> Told:
        """System health, asked once. Raises CallFailed at once when nobody answers."""
        return self._connection.look(f"{API}/health")

    def close(self) -> None:
        """Close its connections."""
        self._connection.close()

    def __enter__(self) -> QFLAREClient:
        """For `with`: closed at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Where it answers; never a key."""
        return f"<QFLAREClient at {self._connection.address}>"


class _Devices:
    """`client.devices`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self, *, status: str | None = None, organization: str | None = None, page: int = 1, size: int = 20
    ) -> list[Told]:
        """A page of registered devices, newest first."""
        asked = {"status": status, "organization": organization, "page": page, "size": size}
        return list(self._connection.get(f"{API}/devices", asked)["devices"])

    def get(self, device_id: str) -> Told:
        """One device. Raises DeviceNotFound."""
        return self._connection.get(f"{API}/devices/{device_id}")

    def update(self, device_id: str, change: Mapping[str, Any]) -> Told:
        """Update its configuration. Raises DeviceNotFound, InvalidRequest."""
        return self._connection.put(f"{API}/devices/{device_id}", Body.of_json(dict(change)))

    def delete(self, device_id: str) -> None:
        """Deregister it. Raises DeviceNotFound."""
        self._connection.delete(f"{API}/devices/{device_id}")


class _FederatedLearning:
    """`client.fl`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start_round(self, config: Mapping[str, Any]) -> str:
        """Start a training round, told in the document's words; its id. Raises InvalidRequest."""
        return str(self._connection.post(f"{API}/fl/rounds", Body.of_json(dict(config)))["id"])

    def list_rounds(self, *, page: int = 1, size: int = 20) -> Sequence[Told]:
        """A page of rounds, newest first."""
        return list(self._connection.get(f"{API}/fl/rounds", {"page": page, "size": size})["rounds"])

    def get_round(self, round_id: str) -> Told:
        """One round. Raises RoundNotFound."""
        return self._connection.get(f"{API}/fl/rounds/{round_id}")

    def wait_for_round(self, round_id: str, timeout: float | None = None) -> Told:
        """The round, once it is completed or failed.

        Raises RoundNotFound, and DeadlineExceeded after `timeout` seconds (it goes on).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (seen := self.get_round(round_id))["status"] == "in_progress":
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceeded(round_id, f"round {round_id} is still {seen['phase']} and goes on")
            time.sleep(LOOK_SECONDS)
        return seen


class _Keys:
    """`client.keys`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> Told:
        """The newest keys, and the `rotation_schedule`."""
        return self._connection.get(f"{API}/security/keys")

    def rotate(self, device_id: str | None = None) -> Told:
        """Force key rotation, of one device or of all. Raises DeviceNotFound, PermissionDenied."""
        asked = {} if device_id is None else {"device_id": device_id}
        return self._connection.post(f"{API}/security/keys/rotate", Body.of_json(asked))
