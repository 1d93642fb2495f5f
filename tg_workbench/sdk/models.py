"""Models and services: what jobs have learned, to be asked, exported and served, and what answers with it.

A model leads to its service and a service to its model, so they stand together.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tg_workbench.errors import DeadlineExceeded, InvalidRequest, ModelFailed
from tg_workbench.sdk.connected import Connected
from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.downloads import fetch_archive
from tg_workbench.sdk.predicting import LANGUAGE, predicted
from tg_workbench.sdk.questions import Reading
from tg_workbench.sdk.values import Prediction, PrivacyView, Value
from tg_workbench.sdk.writing import written

MODELS = "/workbench/v1/models"
"""A worker is started when nobody has asked a model lately; then an answer takes longer."""
SERVICES = "/api/v1/inference/services"
SERVICE = "/workbench/v1/services"
INFERENCE = "/workbench/v1/inference"
Form = Literal["safetensors", "onnx", "hf"]
ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,63}")


class Card(str):
    """What a model is, in Markdown; a notebook shows it as a page."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(slots=True, repr=False)
class Model(Connected):
    """A model: one version of a name. Its members are as they were when it was looked up."""

    KIND: ClassVar[str] = "model"
    WHENCE: ClassVar[str] = "wb.models[id]"

    PARTS: ClassVar[Mapping[str, type[Value]]] = {"privacy": PrivacyView}

    model_id: str
    name: str = ""
    family: str = ""
    """What all versions are called."""
    version: int = 1
    aliases: Sequence[str] = ()
    model_type: str = ""
    task: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    class_names: Sequence[str] | None = None
    inputs: Sequence[str] | None = None
    """The raw columns of a row to predict, in order; None: numbers, pictures or text."""
    columns: Sequence[Mapping[str, Any]] | None = None
    """How each of them is read: name, type, and the values or the range it may have, where that is known."""
    performance: Mapping[str, Any] = field(default_factory=dict)
    """How good it is: accuracy, precision, recall, f1_score; of a regression mae, rmse, r2."""
    performance_note: str | None = None
    """Says when these figures are not covered by ε."""
    training_config: Mapping[str, Any] = field(default_factory=dict)
    dataset_id: str | None = None
    dataset_version: int | None = None
    job_id: str | None = None
    training_client_id: str | None = None
    privacy: PrivacyView = field(default_factory=PrivacyView)
    meaning: str = ""
    """What its privacy means, in a sentence."""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    has_onnx: bool = False
    created_at: str | None = None
    _connection: Connection | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """Its id."""
        return self.model_id

    # ------------------------------------------------------------------------- ask
    def predict(self, rows: Any) -> list[Prediction]:
        """A class and how sure the model is of it, or a value, for each row, in order.

        Rows are lists in the order of `inputs`, dicts by column, an array, a DataFrame (columns that it does
        not read stay here), pictures (arrays, channels first, or Pillow's), or texts; one row alone is
        answered by a list of one. Raises InvalidRequest, naming row and column.
        """
        connection = self._connected()
        return predicted(connection, f"/models/{self.id}/predict", rows, self)

    @property
    def reading(self) -> Reading:
        """What it reads, as rows are made ready for it."""
        shape = tuple(self.architecture.get("input_shape") or ())
        texts = self.task == LANGUAGE or ("input_shape" in self.architecture and not shape)
        return Reading(self.inputs, shape, takes_bytes=self.class_names is not None, takes_texts=texts)

    # ------------------------------------------------------------------------- look
    @property
    def card(self) -> Card:
        """What it is: its data, training, figures, privacy, inputs and limits; a page in a notebook."""
        return Card(self._connected().download(f"{MODELS}/{self.id}/card").decode())

    def versions(self) -> list[Model]:
        """Every version of its name, the newest first."""
        connection = self._connected()
        answer = connection.get(f"{MODELS}/{self.id}/versions")
        return [Model.from_wire(item, connection) for item in answer.get("models", [])]

    def refresh(self) -> Self:
        """Look it up again, and return it. Raises ModelNotFound."""
        self._take(self._connected().get(f"{MODELS}/{self.id}"))
        return self

    # ------------------------------------------------------------------------- keep
    def alias(self, alias: str) -> Self:
        """Have an alias of its name point here and nowhere else: `wb.models["name@production"]` finds it.

        Raises InvalidRequest for what can be none.
        """
        if not ALIAS.fullmatch(alias):
            raise InvalidRequest(
                "an alias is 1 to 64 of small letters, digits and . _ -, beginning with a letter"
            )
        self._take(self._connected().put(f"{MODELS}/{self.id}/aliases/{alias}"))
        return self

    def remove_alias(self, alias: str) -> Self:
        """Take an alias away from this version."""
        self._take(self._connected().delete(f"{MODELS}/{self.id}/aliases/{alias}"))
        return self

    def export(self, folder: str | Path, format: Form = "safetensors") -> Path:
        """Write it into `folder`, which is made: plain weights, ONNX, or what `from_pretrained` loads.

        What it cost is in `privacy.json` beside it, and its card. The files are not encrypted. Raises
        InvalidRequest when it has no such form, FileExistsError rather than write over a file.
        """
        query = {"format": format}
        return fetch_archive(
            self._connected(), f"{MODELS}/{self.id}/export", Path(folder).expanduser(), query
        )

    def serve(
        self,
        name: str | None = None,
        *,
        min_replicas: int = 0,
        max_replicas: int = 1,
        runtime: str = "onnxruntime",
        gpu_count: int = 0,
    ) -> Service:
        """Have an inference service answer with it, from now on; named as the model is when nothing is said.

        With `min_replicas` 0 its worker leaves when nobody asks, and the next question starts another.
        Raises Refused for a name that is taken, InvalidRequest.
        """
        given = name or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{self.family}-v{self.version}").strip("-._")[:64]
        service = Service.made(
            self._connected(),
            self.id,
            given,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            runtime=runtime,
            gpu_count=gpu_count,
        )
        return service.start()

    def delete(self) -> None:
        """Forget its weights; what it has cost stays spent. Raises ModelInUse while it is served."""
        self._connected().delete(f"{MODELS}/{self.id}")

    # ------------------------------------------------------------------------- how it asks
    def __str__(self) -> str:
        """One line: name, version, how good it is and what it cost."""
        names = "".join(f" @{alias}" for alias in self.aliases)
        shown = [(name, self.performance.get(name)) for name in ("accuracy", "f1_score", "r2", "rmse")]
        figures = [f"{name} {value:.3f}" for name, value in shown if isinstance(value, int | float)][:2]
        cost = (
            f"ε = {self.privacy.spent_epsilon or 0.0:.2f}" if self.privacy.private else "no privacy guarantee"
        )
        return ", ".join([f"{self.family} version {self.version}{names} ({self.model_type})", *figures, cost])

    def __repr__(self) -> str:
        """The same, and its id; asks nobody."""
        return f"<Model {self}, {self.id}>"


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

    @classmethod
    def made(cls, connection: Connection, model_id: str, name: str, **chosen: str | int) -> Self:
        """A new one, stopped; `chosen` are its runtime and how many workers and GPUs it may have."""
        asked = {"name": name, "model_id": model_id, **chosen}
        return cls.from_wire(connection.post(SERVICES, Body.of_json(asked))["data"], connection)

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
        connection = self._connected()
        return Model.from_wire(connection.get(f"{MODELS}/{self.model_id}"), connection)

    def refresh(self) -> Self:
        """Look again, and return it. Raises ServiceNotFound."""
        self._take(self._connected().get(f"{SERVICE}/{self.id}"))
        return self

    # ------------------------------------------------------------------------- life
    def start(self) -> Self:
        """Have it answer, from now on and after every restart; it is `ready` when its worker is."""
        self._take(self._connected().post(f"{SERVICES}/{self.id}/start")["data"])
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
        self._take(self._connected().post(f"{SERVICES}/{self.id}/stop")["data"])
        return self

    def delete(self) -> None:
        """Stop it and forget it; its model stays."""
        self._connected().delete(f"{SERVICE}/{self.id}")

    # ------------------------------------------------------------------------- ask
    def predict(self, rows: Any) -> list[Prediction]:
        """What its model says of each row, in order; rows are as for `Model.predict`.

        A worker that is not there yet is waited for. Raises ServiceStopped, InvalidRequest.
        """
        return predicted(self._connected(), f"{SERVICE}/{self.id}/predict", rows, self.model)

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
        yield from written(self._connected(), path, asked)

    # ------------------------------------------------------------------------- how it asks
    def __str__(self) -> str:
        """One line: name, how it stands, and what answers."""
        workers = f"{self.replicas} of at most {self.max_replicas} workers"
        told = f": {self.reason}" if self.reason else ""
        return f"{self.name} {self.status}{told}, {workers}, {self.runtime_used}"

    def __repr__(self) -> str:
        """The same, and its id; asks nobody."""
        return f"<Service {self}, {self.id}>"
