from __future__ import annotations

import pytest

from tg_workbench.engine.architectures import LANGUAGE_MODELS, ROW_MODELS, known_models
from tg_workbench.engine.specs import Architecture, LoraSpec
from tg_workbench.errors import InvalidRequest
from tg_workbench.training import specs
from tg_workbench.training.admission import check
from tg_workbench.training.specs import ClientSpec


def test_what_may_be_asked_for_is_what_the_engine_builds() -> None:
    assert list(specs.MODEL_REFS) == known_models()
    assert list(specs.ROW_MODELS) == list(ROW_MODELS)


@pytest.mark.parametrize("name", ROW_MODELS)
def test_network_of_rows_has_the_shape_of_its_rows_and_no_adapters(name: str) -> None:
    check(ClientSpec(name, architecture=Architecture((1, 8, 8), 2)), None)
    with pytest.raises(InvalidRequest, match="input_shape"):
        check(ClientSpec(name, architecture=Architecture((), 2)), None)
    with pytest.raises(InvalidRequest, match="LoRA"):
        check(ClientSpec(name, architecture=Architecture((1, 8, 8), 2), lora=LoraSpec()), None)


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_language_model_takes_a_number_of_classes_and_adapters(name: str) -> None:
    check(ClientSpec(name, architecture=Architecture((), 2), lora=LoraSpec()), None)
    with pytest.raises(InvalidRequest, match="output_size alone"):
        check(ClientSpec(name, architecture=Architecture((8,), 2)), None)
