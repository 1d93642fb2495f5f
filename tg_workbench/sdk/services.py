"""Inference services: models that answer for as long as they are started."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tg_workbench.errors import CallFailed, DeadlineExceeded, ModelFailed, ServiceNotFound
from tg_workbench.sdk.connected import Connected
from tg_workbench.sdk.connection import AWAY, Body, Call, Connection, error_of
from tg_workbench.sdk.events import messages_in
from tg_workbench.sdk.paths import path_of_one
from tg_workbench.sdk.patience import Patience
from tg_workbench.sdk.predicting import predicted
from tg_workbench.sdk.values import Prediction
from tg_workbench.sdk.wire import Answer, WireBroken

if TYPE_CHECKING:
    from tg_workbench.sdk.models import Model

ALL = "/api/v1/inference/services"
ONE = "/workbench/v1/services"
INFERENCE = "/workbench/v1/inference"
PAGE = 100
WRITING_SECONDS = 90.0
"""The longest silence between two pieces of a text."""


@dataclass(slots=True, repr=False)
class Service(Connected):
    """An inference service. `ready` and `status` of `refresh()` ask; other members are as last told."""

    KIND: ClassVar[str] = "service"
    WHENCE: ClassVar[str] = "wb.services[name]"

    id: str
    name: str = ""
    model_id: str = ""
    status: str = "stopped"
    """stopped, starting, ready, failed or stopping."""
    reason: str | None = None
    """Why it failed."""
    runtime: str = ""
    runtime_used: str = ""
    """What answers: onnxruntime, torch or triton."""
    gpu_count: int = 0
    min_replicas: int = 0
    max_replicas: int = 1
    replicas: int = 0
    """How many workers of it answer now."""
    warnings: Sequence[str] = ()
    created_at: str | None = None
    started_at: str | None = None
    stopped_at: str | None = None
    _connection: Connection | None = field(default=None, compare=False)

    # ------------------------------------------------------------------------- how it stands
    @property
    def ready(self) -> bool:
        """Whether it would answer now: asked now."""
        return self.refresh().status == "ready"

    @property
    def url(self) -> str:
        """Where clients of the Open Inference Protocol find it; they add `/v2/…` themselves."""
        return f"{self._connected().address.url.rstrip('/')}{INFERENCE}/{self.id}"

    @property
    def model(self) -> Model:
        """What it answers with."""
        from tg_workbench.sdk.models import Models

        return Models(self._connected()).get(self.model_id)

    def refresh(self) -> Self:
        """Look again, and return it. Raises ServiceNotFound."""
        self._take(self._connected().get(f"{ONE}/{self.id}"))
        return self

    # ------------------------------------------------------------------------- life
    def start(self) -> Self:
        """Have it answer, from now on and after every restart; it is `ready` when its worker is."""
        self._take(self._connected().post(f"{ALL}/{self.id}/start")["data"])
        return self

    def wait(self, timeout: float | None = 60.0) -> Self:
        """Wait until it is ready, and return it. Raises ModelFailed when it cannot be, DeadlineExceeded."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.ready:
            if self.status == "failed":
                raise ModelFailed(self.reason or f"service {self.name} failed")
            if self.status in ("stopped", "stopping"):
                raise ModelFailed(f"service {self.name} is {self.status}: start() it")
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlineExceeded(self.id, f"service {self.name} is not ready after {timeout:g} s")
            time.sleep(0.1)
        return self

    def stop(self) -> Self:
        """What it was asked is answered, and its workers leave; `start()` has it answer again."""
        self._take(self._connected().post(f"{ALL}/{self.id}/stop")["data"])
        return self

    def delete(self) -> None:
        """Stop it and forget it; its model stays."""
        self._connected().delete(f"{ONE}/{self.id}")

    # ------------------------------------------------------------------------- ask
    def predict(self, rows: Any) -> list[Prediction]:
        """What its model says of each row, in order; rows are as for `Model.predict`.

        A worker that is not there yet is waited for. Raises ServiceStopped, InvalidRequest.
        """
        return predicted(self._connected(), f"{ONE}/{self.id}/predict", rows, self.model)

    def generate(
        self,
        prompt: str,
        *,
        max_tokens: int = 64,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = -1,
        stop: Sequence[str] = (),
    ) -> Iterator[str]:
        """What a language model writes after a prompt, piece by piece; `"".join(…)` is all of it.

        Who stops reading stops the writing. Raises ServiceStopped, InvalidRequest for a model that writes
        nothing, and CallFailed when the text breaks off.
        """
        asked = {
            "text_input": prompt,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "stop": list(stop),
        }
        path = f"{INFERENCE}/{self.id}/v2/models/{self.model_id}/generate_stream"
        answer = self._begun(Call("POST", path, body=Body.of_json(asked), answer_seconds=WRITING_SECONDS))
        try:
            for _, told in messages_in(answer.pieces()):
                if told.get("error"):
                    raise ModelFailed(str(told["error"]))
                yield str(told.get("text_output", ""))
        except WireBroken as failure:
            raise CallFailed(f"the text broke off ({failure}): ask again") from failure
        finally:
            answer.close()

    # ------------------------------------------------------------------------- how it asks
    def _begun(self, call: Call) -> Answer:
        """The beginning of an answer; a worker that is not there yet is waited for."""
        connection = self._connected()
        patience = Patience(connection.patience)
        while True:
            try:
                answer = connection.open(call)
            except WireBroken as failure:
                patience.wait_after(connection.unreachable(failure))
                continue
            if answer.status_code == 200:
                return answer
            try:
                answer.read()
            finally:
                answer.close()
            if answer.status_code not in AWAY:
                raise error_of(answer)
            patience.wait_after(error_of(answer))

    def __str__(self) -> str:
        """One line: name, how it stands, and what answers."""
        workers = f"{self.replicas} of at most {self.max_replicas} workers"
        told = f": {self.reason}" if self.reason else ""
        return f"{self.name} {self.status}{told}, {workers}, {self.runtime_used}"

    def __repr__(self) -> str:
        """The same, and its id; asks nobody."""
        return f"<Service {self}, {self.id}>"


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
        asked = {
            "name": name,
            "model_id": model if isinstance(model, str) else model.model_id,
            "runtime": runtime,
            "gpu_count": gpu_count,
            "min_replicas": min_replicas,
            "max_replicas": max_replicas,
        }
        answer = self._connection.post(ALL, Body.of_json(asked))
        return Service.from_wire(answer["data"], self._connection)

    def list(self, *, limit: int = 50, offset: int = 0) -> list[Service]:
        """Some of them, newest first."""
        found: list[Service] = []
        for page in range(1, (offset + limit) // PAGE + 2):
            answer = self._connection.get(ALL, {"page": page, "page_size": PAGE})
            items = answer.get("data", [])
            found += [Service.from_wire(item, self._connection) for item in items]
            if len(items) < PAGE:
                break
        return found[offset : offset + limit]

    def get(self, name: str) -> Service:
        """The service of this name or id. Raises ServiceNotFound."""
        return Service.from_wire(
            self._connection.get(path_of_one(ONE, name, ServiceNotFound)), self._connection
        )

    def __getitem__(self, name: str) -> Service:
        """The same, as `wb.services[name]`."""
        return self.get(name)
