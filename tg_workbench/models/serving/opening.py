"""Opening a model: from its sealed bytes to a host that has proven that it answers. Only workers do this."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from sqlmodel import Session

from tg_workbench.errors import InvalidRequest, ModelFailed, ModelNotFound
from tg_workbench.models.registry import Models
from tg_workbench.models.serving.answering import Answers
from tg_workbench.models.serving.batching import Batcher
from tg_workbench.models.serving.frames import Frame
from tg_workbench.models.serving.hosts import Host, Tell
from tg_workbench.models.serving.served import Encoding, Run, Served
from tg_workbench.models.tables import Model
from tg_workbench.settings import Settings
from tg_workbench.storage import Blobs, Database

if TYPE_CHECKING:
    from tg_workbench.engine.networks import TextClassifier


class RowHost:
    """A network of rows: every caller's question goes through one batcher."""

    def __init__(self, served: Served, run: Run) -> None:
        self._batcher = Batcher(run)
        self._answers = Answers(served, self._batcher.ask)

    async def answer(self, asked: Frame, tell: Tell) -> Frame:
        """The answer. Raises InvalidRequest, ModelFailed, ModelBusy."""
        match asked.header.get("op"):
            case "predict":
                return await self._answers.predict(asked)
            case "infer":
                return await self._answers.infer(asked)
            case "describe":
                return Frame({"shape": list(self._answers.served.input_shape)})
        raise InvalidRequest("this model writes no text: ask it to predict or to infer")

    async def close(self) -> None:
        """Compute nothing any more."""
        await self._batcher.close()


def open_host(settings: Settings, database: Database, model_id: str, *, with_torch: bool) -> Host:
    """The model, opened and warmed up. Raises ModelNotFound, SealBroken, ModelFailed."""
    with database.read() as session:
        model = session.get(Model, model_id)
        if model is None or model.deleted_at is not None:
            raise ModelNotFound
        weights, onnx = _opened(session, settings, model)
    if with_torch:
        return _in_torch(settings, model, weights)
    if onnx is None:
        raise ModelFailed("this model has no ONNX graph")
    from tg_workbench.models.serving.onnx_network import open_network

    run, shape = open_network(onnx)
    _warm_up(run, shape)
    return RowHost(_served(model, shape), run)


def _in_torch(settings: Settings, model: Model, weights: bytes) -> Host:
    """Imported here, because a worker for ONNX has no torch."""
    from tg_workbench.engine.networks import LanguageModel, TextClassifier
    from tg_workbench.models.serving import torch_hosts

    described = {"model_ref": model.model_ref, **model.architecture}
    network = torch_hosts.open_network(described, weights, settings.home / "models")
    if isinstance(network, LanguageModel):
        host = torch_hosts.TextHost(_served(model, ()), network)
        host.warm_up()
        return host
    if isinstance(network, TextClassifier):
        return _telling_apart(model, network)
    run = torch_hosts.rows_of(network)
    _warm_up(run, network.input_shape)
    return RowHost(_served(model, network.input_shape), run)


def _telling_apart(model: Model, network: TextClassifier) -> Host:
    from tg_workbench.datasets.encoding import Encoding as OfDatasets
    from tg_workbench.models.serving.text_classifiers import MOST_TOKENS, ClassifierHost, Tokens, run_of

    shape, run = (MOST_TOKENS,), run_of(network)
    _warm_up(run, shape)
    known = OfDatasets.from_json(model.encoding) if model.encoding is not None else None
    served = replace(_served(model, shape), encoding=Tokens(network, known))
    return ClassifierHost(RowHost(served, run))


def _opened(session: Session, settings: Settings, model: Model) -> tuple[bytes, bytes | None]:
    return Models(session, Blobs(settings.home / "blobs"), settings.home).opened(model)


def _served(model: Model, shape: tuple[int, ...]) -> Served:
    names = tuple(model.class_names) if model.class_names else None
    return Served(model.id, model.version, model.task, shape, names, _encoding(model))


def _encoding(model: Model) -> Encoding | None:
    if model.encoding is None:
        return None
    from tg_workbench.datasets.encoding import Encoding as OfDatasets

    found: Encoding = OfDatasets.from_json(model.encoding)
    return found


def _warm_up(run: Run, shape: tuple[int, ...]) -> None:
    """The first answer takes longest, and shows that there is one. Raises ModelFailed."""
    scores = run(np.zeros((1, *shape), np.float32))
    if scores.shape[0] != 1 or scores.ndim != 2:
        raise ModelFailed("this model's network does not answer each row")
