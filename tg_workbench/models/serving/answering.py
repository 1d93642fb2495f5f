"""Answers: questions of both kinds, raw rows and tensors of the Open Inference Protocol, for one network.

What a question lacks is told by an error of ours before it reaches the network; what the network says is
checked before it is told.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from pydantic_core import from_json, to_json

from tg_workbench.errors import InvalidBatch, InvalidRequest, ModelFailed, RowInvalid
from tg_workbench.models.serving.frames import Frame
from tg_workbench.models.serving.rows import plain_features, rows_in
from tg_workbench.models.serving.served import INPUT, OUTPUT, REGRESSION, Array, Served
from tg_workbench.models.serving.tensors import JSON_BYTES, RawInputs, as_text, read_floats

LARGE_BYTES = 128 << 10
"""A question that is longer is read in a thread, so that the others go on meanwhile."""
Compute = Callable[[Array], Awaitable[Array]]


class Answers:
    """What one model says. `compute` is its network, behind a `Batcher`."""

    def __init__(self, served: Served, compute: Compute) -> None:
        self.served = served
        self._compute = compute

    async def predict(self, asked: Frame) -> Frame:
        """A class and a confidence, or a value, for each raw row. Raises InvalidBatch, ModelFailed."""
        features = await _off_loop(self._features, asked.payload)
        scores = await self._computed(features)
        found = await _off_loop(self._predictions, scores)
        return Frame({}, to_json({"predictions": found}))

    async def infer(self, asked: Frame) -> Frame:
        """The protocol's answer to a request of its own. Raises InvalidRequest, ModelFailed."""
        request, features = await _off_loop(self._tensors, asked.payload, int(asked.header[JSON_BYTES]))
        wanted = _wanted_outputs(request)
        scores = await self._computed(features)
        told, raw = [], []
        for output in wanted:
            described, content = self._output(output, scores)
            told.append(described)
            raw.append(content)
        answer: dict[str, Any] = {
            "model_name": asked.header["name"],
            "model_version": str(self.served.version),
        }
        if isinstance(request.get("id"), str):
            answer["id"] = request["id"]
        head = to_json({**answer, "outputs": told})
        return Frame({JSON_BYTES: len(head)}, b"".join([head, *raw]))

    async def _computed(self, features: Array) -> Array:
        scores = await self._compute(features)
        if not np.isfinite(scores).all():
            raise ModelFailed("this model answers with numbers that are not finite")
        return scores

    # ------------------------------------------------------------------------- rows
    def _features(self, content: bytes) -> Array:
        member, rows = rows_in(from_json(content))
        if self.served.encoding is None:
            return plain_features(rows, self.served.input_shape, member)
        features = _as_read(self.served.encoding.features(rows), self.served.input_shape)
        if features is None or not np.isfinite(features).all():
            raise RowInvalid(member, "the rows do not fit this model")
        return features

    def _predictions(self, scores: Array) -> list[dict[str, Any]]:
        if self.served.task == REGRESSION:
            values = scores.astype(float).tolist()
            return [{"value": row[0]} if len(row) == 1 else {"value": row} for row in values]
        chances = probabilities(scores)
        best = chances.argmax(axis=1)
        sure = chances[np.arange(len(best)), best].tolist()
        return [
            {"class": self.served.name_of(number), "confidence": chance}
            for number, chance in zip(best.tolist(), sure, strict=True)
        ]

    # ------------------------------------------------------------------------- tensors
    def _tensors(self, content: bytes, json_bytes: int) -> tuple[dict[str, Any], Array]:
        request = from_json(content[:json_bytes])
        inputs = request.get("inputs")
        if not isinstance(inputs, list) or len(inputs) != 1:
            raise InvalidBatch(f"send one input, which is called {INPUT}")
        if not isinstance(inputs[0], dict) or inputs[0].get("name") != INPUT:
            raise InvalidBatch(f"the one input of this model is called {INPUT}")
        raw = RawInputs(content[json_bytes:])
        features = read_floats(inputs[0], raw, self.served.input_shape)
        raw.end()
        return request, features

    def _output(self, output: dict[str, Any], scores: Array) -> tuple[dict[str, Any], bytes]:
        """One output as it is described, and its raw bytes if they are wanted so."""
        shape: list[int] = list(scores.shape)
        if top := output["classification"]:
            texts = self._classes(scores, min(top, scores.shape[1]))
            shape, datatype = [len(scores), len(texts) // len(scores)], "BYTES"
            raw, plain = as_text([text.encode() for text in texts]), texts
        else:
            datatype, raw = "FP32", np.ascontiguousarray(scores, "<f4").tobytes()
            plain = [] if output["binary"] else scores.ravel().tolist()
        described = {"name": OUTPUT, "datatype": datatype, "shape": shape}
        if output["binary"]:
            return {**described, "parameters": {"binary_data_size": len(raw)}}, raw
        return {**described, "data": plain}, b""

    def _classes(self, scores: Array, top: int) -> list[str]:
        """The protocol's classification extension: `score:index:label`, the best first."""
        order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        return [
            f"{scores[row, index]:f}:{index}:{self.served.name_of(int(index))}"
            for row in range(len(scores))
            for index in order[row]
        ]


def probabilities(scores: Array) -> Array:
    """The chance of each class: of logits for every class, or of one logit for the second of two."""
    wide = scores.astype(np.float64)
    if wide.shape[1] == 1:
        wide = np.concatenate([np.zeros_like(wide), wide], axis=1)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    chances: Array = powers / powers.sum(axis=1, keepdims=True)
    return chances


def _as_read(encoded: Array, shape: tuple[int, ...]) -> Array | None:
    """What an encoding made, as the network reads it, bytes as value / 255. None: it does not fit."""
    if math.prod(encoded.shape[1:]) != math.prod(shape):
        return None
    features = encoded.astype(np.float32)
    if encoded.dtype == np.uint8:
        features /= 255.0
    return features.reshape(len(features), *shape)


def _wanted_outputs(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Which outputs are to be told, and how: all of them, in JSON, when nothing is said."""
    parameters = _parameters(request)
    binary = parameters.get("binary_data_output", False)
    outputs = request.get("outputs") or [{"name": OUTPUT, "parameters": {"binary_data": binary}}]
    if not isinstance(outputs, list) or len(outputs) > 8:
        raise InvalidRequest("outputs is a list of objects with a name")
    return [_wanted(output, binary=binary) for output in outputs]


def _wanted(output: Any, *, binary: Any) -> dict[str, Any]:
    if not isinstance(output, dict) or output.get("name") != OUTPUT:
        raise InvalidRequest(f"the one output of this model is called {OUTPUT}")
    parameters = _parameters(output)
    top = parameters.get("classification", 0)
    said = parameters.get("binary_data", binary)
    if type(top) is not int or not 0 <= top <= 10_000 or type(said) is not bool:
        raise InvalidRequest("an output's binary_data is true or false, and its classification a number")
    return {"binary": said, "classification": top}


def _parameters(thing: dict[str, Any]) -> dict[str, Any]:
    parameters = thing.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidRequest("parameters is an object")
    return parameters


async def _off_loop(function: Callable[..., Any], thing: Any, *more: Any) -> Any:
    """Call a function of bytes or numbers; of many of them, in a thread."""
    size = len(thing) if isinstance(thing, bytes) else thing.nbytes
    if size < LARGE_BYTES:
        return function(thing, *more)
    return await asyncio.to_thread(function, thing, *more)
