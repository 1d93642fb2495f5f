"""A form to ask a model with: made of its inputs, answered by a class and how sure it is, or by a value.

What is filled in goes to the workbench when Predict or Enter is pressed, and is kept nowhere but in the last
few answers, which are shown beneath.

Pitfalls: a confidence is the model's own, and not a probability that was checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import traitlets

from tg_widgets import assets
from tg_widgets.fields import sentence
from tg_widgets.input_form import IMAGE, FieldsInvalid, field_named, form_of, row_of
from tg_widgets.live_card import LiveCard
from tg_workbench.errors import InvalidRequest
from tg_workbench.sdk import Model, Workbench
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.registry import Models
from tg_workbench.sdk.values import Prediction

SECONDS_BETWEEN_LOOKS = 60.0
MOST_ANSWERS = 5
LONGEST_WORDS = 120


class PredictBox(LiveCard):
    """Asks a model, given whole, or by its id or name as `wb.models[…]` takes it.

    `answers` are the last few, the newest first: `label` and `confidence`, or `value`, and `said`, what was
    asked about.
    """

    _esm = assets.script("predict_box")
    _css = assets.style("live_card.css", "predict_box.css")

    answers = traitlets.List(traitlets.Dict(), read_only=True).tag(sync=True)

    def __init__(self, model: Model | str, workbench: Workbench | None = None) -> None:
        self._key = model if isinstance(model, str) else model.id
        self._model = None if isinstance(model, str) else model
        self._wrong: dict[str, str] = {}
        super().__init__(workbench if workbench is not None or isinstance(model, str) else model)

    @property
    def model(self) -> Model | None:
        """The model that it asks."""
        return self._model

    def _look(self, connection: Connection) -> float:
        model = Models(connection)[self._key]
        with self._lock:
            self._key, self._model = model.id, model
        return SECONDS_BETWEEN_LOOKS

    def _face(self) -> Mapping[str, Any]:
        model = self._model
        if model is None:
            return {"id": self._key}
        return {
            "id": model.id,
            "name": model.family or model.name,
            "version": model.version,
            "type": model.model_type,
            "form": form_of(model),
            "classes": len(model.class_names or ()),
            "wrong": self._wrong,
        }

    def _allows(self, action: str, values: Mapping[str, Any]) -> bool:
        return action == "predict" and self._model is not None

    def _ask(self, action: str, values: Mapping[str, Any], connection: Connection) -> None:
        model = self._model
        if model is None:
            return
        self._wrong = {}
        try:
            row = row_of(model, values)
            (said,) = Models(connection).get(model.id).predict(row)
        except FieldsInvalid as failure:
            self._wrong = {name: sentence(problem) for name, problem in failure.problems.items()}
            return
        except InvalidRequest as failure:
            field = field_named(model, str(failure))
            if not field:
                raise
            self._wrong = {field: sentence(_problem(str(failure)))}
            return
        answer = answer_of(said, model, words_of(row))
        self.set_trait("answers", [answer, *self.answers][:MOST_ANSWERS])


def answer_of(said: Prediction, model: Model, words: str) -> dict[str, Any]:
    """What a page shows of a prediction: bars of its class and of the others, or a value."""
    answer: dict[str, Any] = {"said": words}
    if said.label is None:
        value = said.value
        answer["value"] = f"{value:.6g}" if isinstance(value, int | float) else str(value)[:LONGEST_WORDS]
        return answer
    answer["label"] = str(said.label)
    if said.confidence is not None:
        answer["confidence"] = said.confidence
        answer["bars"] = _bars(str(said.label), said.confidence, model)
    return answer


def words_of(row: Any) -> str:
    """What was asked about, in a few words."""
    if isinstance(row, str):
        text = row
    elif isinstance(row, Mapping):
        text = ", ".join(f"{name} {_word(value)}" for name, value in row.items())
    elif hasattr(row, "shape"):
        return IMAGE
    else:
        text = ", ".join(_word(value) for value in row)
    return text if len(text) <= LONGEST_WORDS else f"{text[: LONGEST_WORDS - 1]}…"


def _word(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bars(label: str, confidence: float, model: Model) -> list[dict[str, Any]]:
    """Its class and all the others: the workbench tells of the likeliest alone."""
    names = [name for name in model.class_names or () if name != label]
    outputs = len(model.class_names or ()) or int(model.architecture.get("output_classes") or 0)
    bars: list[dict[str, Any]] = [{"name": label, "share": confidence}]
    if len(names) == 1 and outputs == 2:
        bars.append({"name": names[0], "share": 1.0 - confidence})
    elif outputs > 1:
        others = f"{outputs - 1} other class{'es' if outputs > 2 else ''}"
        bars.append({"name": others, "share": 1.0 - confidence, "is_rest": True})
    return bars


def _problem(message: str) -> str:
    """What is wrong, without where: the field stands beside it."""
    return message.rpartition(": ")[2] or message
