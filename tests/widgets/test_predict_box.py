from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tg_widgets import PredictBox
from tg_widgets.predict_box import MOST_ANSWERS, answer_of

from tests.widgets.conftest import Wire, wait_for
from tg_workbench import Workbench
from tg_workbench.sdk import Job, Model
from tg_workbench.sdk.values import Prediction


@pytest.fixture
def box(wire: Wire, open_job: Job) -> Iterator[PredictBox]:
    """A box on a page, that asks a model of a table."""
    model = open_job.model
    assert model is not None
    box = PredictBox(model)
    wire.say(box, {"action": "ready"})
    wait_for(lambda: box.shown["connection"] == "connected")
    yield box
    box.close()


def ask(wire: Wire, box: PredictBox, **fields: Any) -> None:
    wire.say(
        box, {"action": "predict", "values": {"fields": {"smokes": "often", "pressure": "120", **fields}}}
    )
    wait_for(lambda: not box.shown["doing"])


def test_a_row_is_answered_by_a_class_and_the_last_few_are_kept(wire: Wire, box: PredictBox) -> None:
    ask(wire, box, age="85")
    ask(wire, box, age="20")
    wait_for(lambda: [answer["label"] for answer in box.answers] == ["no", "yes"])
    newest = box.answers[0]
    assert newest["said"] == "age 20, smokes often, pressure 120"
    assert [bar["name"] for bar in newest["bars"]] == ["no", "yes"]
    assert sum(bar["share"] for bar in newest["bars"]) == pytest.approx(1.0)
    assert newest["confidence"] > 0.5
    for _ in range(MOST_ANSWERS):
        ask(wire, box, age="30")
    assert len(box.answers) == MOST_ANSWERS


def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_asked(wire: Wire, box: PredictBox) -> None:
    ask(wire, box, age="old", smokes="sometimes")
    assert box.shown["wrong"] == {
        "age": "Must be a number.",
        "smokes": "Must be one of those the model knows.",
    }
    ask(wire, box, age="1e300")
    assert list(box.shown["wrong"]) == ["age"], "the workbench said so"
    assert box.answers == []
    ask(wire, box, age="30")
    assert box.shown["wrong"] == {}


def test_a_picture_is_predicted(wire: Wire, workbench: Workbench) -> None:
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (60, 1, 8, 8)).astype("uint8")
    pictures = workbench.datasets.upload(
        "pictures", features=pixels, targets=random.integers(0, 3, 60), privacy="public"
    )
    job = workbench.jobs.submit("cnn", pictures, epochs=1, batch_size=30).wait(timeout=240, progress=False)
    assert job.model is not None
    box = PredictBox(job.model.id, workbench)
    wire.say(box, {"action": "ready"})
    wait_for(lambda: box.shown.get("form", {}).get("kind") == "image")
    wire.say(box, {"action": "predict", "values": {"fields": {}}}, pixels[0].tobytes())
    wait_for(lambda: box.answers)
    assert box.answers[0]["said"] == "image"
    assert box.answers[0]["bars"][1]["name"] == "2 other classes"
    box.close()


def test_a_value_is_told_as_a_value() -> None:
    model = Model("mdl-1", task="regression", architecture={"input_shape": [1]})
    assert answer_of(Prediction(value=1.23456789), model, "1") == {"said": "1", "value": "1.23457"}
