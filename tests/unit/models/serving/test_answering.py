"""Raw rows go through the encoding that the model's dataset had."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from tests.learned import CLASSES
from tg_workbench.datasets.encoding import Encoding
from tg_workbench.datasets.raw_columns import Number
from tg_workbench.errors import InvalidBatch, ModelFailed
from tg_workbench.models.serving.answering import Answers, probabilities
from tg_workbench.models.serving.frames import Frame
from tg_workbench.models.serving.served import Array, Served
from tg_workbench.models.serving.served import Encoding as AnyEncoding

TABLE = Encoding("table", "classification", (Number("age"), Number("height")), CLASSES)
IMAGES = Encoding("images", "classification", class_names=CLASSES, image_shape=(1, 1, 2))


def told(
    question: dict[str, Any], encoding: AnyEncoding | None, shape: tuple[int, ...], *, broken: bool = False
) -> Any:
    """What a network says that scores two classes with the two numbers it reads."""

    async def compute(features: Array) -> Array:
        scores = features.reshape(len(features), -1)
        return scores * np.float32(np.nan) if broken else scores

    served = Served("mdl-1", 1, "classification", shape, CLASSES, encoding)
    answer = asyncio.run(Answers(served, compute).predict(Frame({}, json.dumps(question).encode())))
    return json.loads(answer.payload)["predictions"]


def test_a_row_may_name_its_columns() -> None:
    by_name = told({"input": {"height": 2.0, "age": 1.0}}, TABLE, (2,))
    assert by_name == told({"inputs": [[1.0, 2.0]]}, TABLE, (2,))
    assert by_name[0]["class"] == "dog"


@pytest.mark.parametrize("row", [{"age": 1.0}, {"age": 1.0, "height": "tall"}, [1.0], "x"], ids=range(4))
def test_a_row_that_the_encoding_cannot_read_is_refused(row: Any) -> None:
    with pytest.raises(InvalidBatch, match="row 1"):
        told({"input": row}, TABLE, (2,))


def test_pixels_are_read_as_parts_of_the_brightest() -> None:
    (found,) = told({"input": [[0, 255]]}, IMAGES, (1, 1, 2))
    assert found["confidence"] == pytest.approx(np.e / (1 + np.e))


def test_an_encoding_of_another_model_is_refused() -> None:
    with pytest.raises(InvalidBatch, match="do not fit"):
        told({"input": [1.0, 2.0]}, TABLE, (3,))


def test_numbers_that_are_not_finite_are_not_told() -> None:
    with pytest.raises(ModelFailed):
        told({"input": [1.0, 2.0]}, TABLE, (2,), broken=True)


def test_one_score_is_the_second_of_two_classes() -> None:
    np.testing.assert_allclose(probabilities(np.array([[0.0], [100.0]])), [[0.5, 0.5], [0.0, 1.0]], atol=1e-9)
