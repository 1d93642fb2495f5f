"""A network in ONNX, run by ONNX Runtime from bytes: no path is ever opened, and no torch is needed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx.external_data_helper import uses_external_data
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from tg_workbench.errors import ModelFailed
from tg_workbench.models.serving.served import INPUT, OUTPUT, Array, Run

MOST_THREADS = 4
Refusals = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NotImplemented,
    runtime.RuntimeException,
)
"""What ONNX Runtime raises: its errors have no class in common but Exception."""


def open_network(content: bytes) -> tuple[Run, tuple[int, ...]]:
    """The network in these bytes, and the shape of one row of `features`. Raises ModelFailed.

    A graph that names other files is refused: ONNX Runtime would look for them.
    """
    _refuse_other_files(content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, min(MOST_THREADS, (os.cpu_count() or 2) // 2))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Refusals:
        raise ModelFailed("this model's ONNX graph does not load") from None
    names = [one.name for one in (*session.get_inputs(), *session.get_outputs())]
    if names != [INPUT, OUTPUT]:
        raise ModelFailed(f"this model's ONNX graph does not read {INPUT} and give {OUTPUT}")

    shape = session.get_inputs()[0].shape[1:]
    if not shape or not all(isinstance(side, int) for side in shape):
        raise ModelFailed(f"this model's ONNX graph does not say the shape of {INPUT}")

    def run(features: Array) -> Array:
        try:
            scores: Array = session.run([OUTPUT], {INPUT: np.ascontiguousarray(features, np.float32)})[0]
        except Refusals:
            raise ModelFailed("this model's ONNX graph does not run on these rows") from None
        return scores.reshape(len(features), -1)

    return run, tuple(shape)


def _refuse_other_files(content: bytes) -> None:
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError:
        raise ModelFailed("this model's ONNX graph does not load") from None
    if any(uses_external_data(tensor) for tensor in _tensors_in(model)):
        raise ModelFailed("this model's ONNX graph names other files, which are never opened")


def _tensors_in(message: Any) -> list[Any]:
    """Every tensor in a protobuf message, wherever it lies: in subgraphs, functions and attributes, too."""
    found: list[Any] = []
    pending = [message]
    while pending:
        part = pending.pop()
        if part.DESCRIPTOR.name == "TensorProto":
            found.append(part)
            continue
        for field, value in part.ListFields():
            if field.type == field.TYPE_MESSAGE:
                pending += [value] if hasattr(value, "DESCRIPTOR") else list(value)
    return found
