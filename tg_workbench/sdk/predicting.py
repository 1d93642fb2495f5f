"""Predicting: rows are asked about, of a model or of a service that answers with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.questions import Reading, parts_of, rows_to_ask
from tg_workbench.sdk.values import Prediction

ANSWER_SECONDS = 90.0
LANGUAGE = "language_modeling"


class Asked(Protocol):
    """A model, as far as asking it goes."""

    @property
    def reading(self) -> Reading: ...  # noqa: D102
    @property
    def class_names(self) -> Sequence[str] | None: ...  # noqa: D102
    @property
    def task(self) -> str: ...  # noqa: D102


def predicted(connection: Connection, path: str, rows: Any, model: Asked) -> list[Prediction]:
    """Ask about rows, in as many requests as they take. Classes without names are numbers."""
    said: list[Prediction] = []
    for part in parts_of(rows_to_ask(rows, model.reading)):
        body = Body.of_json({"inputs": part})
        answer = connection.post(path, body, answer_seconds=ANSWER_SECONDS)
        said += [Prediction.from_wire(each) for each in answer.get("predictions", [])]
    if model.class_names is None and model.task != LANGUAGE:
        return [_numbered(each) for each in said]
    return said


def _numbered(said: Prediction) -> Prediction:
    return replace(said, label=int(said.label)) if str(said.label).isdecimal() else said
