"""A graph is opened from its bytes, and never leads to another file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.learned import sums_onnx
from tg_workbench.errors import ModelFailed
from tg_workbench.models.serving.onnx_network import open_network


def test_a_graph_answers_each_row() -> None:
    run, shape = open_network(sums_onnx())
    assert shape == (4,)
    np.testing.assert_array_equal(run(np.arange(8, dtype=np.float32).reshape(2, 4)), [[0, 1, 2], [4, 5, 6]])


@pytest.mark.parametrize("inside", [False, True])
def test_a_graph_that_names_another_file_is_refused(tmp_path: Path, inside: bool) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(48))
    model = onnx.load_model_from_string(sums_onnx())
    tensor = model.graph.initializer[0]
    if inside:
        tensor = (
            model.graph.node.add(op_type="Constant", output=["hidden"])
            .attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
            .t
        )
        tensor.dims.extend([3, 4])
        tensor.data_type = onnx.TensorProto.FLOAT
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(secret))
    with pytest.raises(ModelFailed, match="other files"):
        open_network(model.SerializeToString())


@pytest.mark.parametrize("content", [b"", b"no graph", bytes(1000)], ids=range(3))
def test_what_is_no_graph_is_refused(content: bytes) -> None:
    with pytest.raises(ModelFailed):
        open_network(content)


def test_a_graph_of_another_kind_is_refused() -> None:
    model = onnx.load_model_from_string(sums_onnx())
    model.graph.input[0].name = "other"
    model.graph.node[0].input[0] = "other"
    with pytest.raises(ModelFailed, match="read features"):
        open_network(model.SerializeToString())
