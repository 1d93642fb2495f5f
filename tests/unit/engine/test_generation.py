from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tg_workbench.engine.architectures import build
from tg_workbench.engine.generation import Taste, tokenize, write_on
from tg_workbench.engine.networks import LanguageModel
from tg_workbench.errors import ClientFailed, Interrupted, InvalidBatch, InvalidRequest


@pytest.fixture(scope="module")
def network() -> LanguageModel:
    found = build("tiny-llama", None, Path())
    assert isinstance(found, LanguageModel)
    found.module.eval()
    return found


def taste(**more: Any) -> Taste:
    wanted: dict[str, Any] = {"max_tokens": 8, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
    return Taste(**wanted | more)


def test_greedy_writing_takes_the_likeliest_token_each_time(network: LanguageModel) -> None:
    ids = network.tokenizer.encode("hello")
    expected: list[int] = []
    with torch.no_grad():
        while len(expected) < 6:
            logits = network.module(input_ids=torch.tensor([ids + expected])).logits
            expected.append(int(logits[0, -1].argmax()))
            if expected[-1] == network.tokenizer.end_id:
                break
    written = write_on(network, "hello", taste(max_tokens=6, temperature=0.0))
    assert written.completion == network.tokenizer.decode(expected)


def test_likeliest_token_is_the_only_one_left_by_a_narrow_taste(network: LanguageModel) -> None:
    greedy = write_on(network, "hello", taste(temperature=0.0)).completion
    assert write_on(network, "hello", taste(top_k=1)).completion == greedy
    assert write_on(network, "hello", taste(top_p=1e-9)).completion == greedy


def test_hot_writing_differs_each_time(network: LanguageModel) -> None:
    assert len({write_on(network, "hello", taste(temperature=2.0)).completion for _ in range(5)}) > 1


def test_writing_ends_at_its_length(network: LanguageModel) -> None:
    network_without_end = write_on(network, "a", taste(max_tokens=3, temperature=0.0))
    assert network_without_end.tokens_generated <= 3
    longest = write_on(network, "a" * (network.max_length - 2), taste(max_tokens=50, temperature=5.0))
    assert longest.tokens_generated <= 2


def test_writing_stops_before_a_stop_sequence(network: LanguageModel) -> None:
    greedy = write_on(network, "hello", taste(temperature=0.0, max_tokens=20)).completion
    stop = greedy[2:4]
    written = write_on(network, "hello", taste(temperature=0.0, max_tokens=20, stop_sequences=(stop,)))
    assert written.completion == greedy[: greedy.find(stop)]
    assert written.finish_reason == "stop"


def test_writing_stops_when_asked(network: LanguageModel) -> None:
    with pytest.raises(Interrupted):
        write_on(network, "hello", taste(), should_stop=lambda: True)


def test_empty_prompt_begins_at_the_start(network: LanguageModel) -> None:
    assert write_on(network, "", taste(max_tokens=2)).tokens_generated <= 2


def test_prompt_longer_than_the_model_is_refused(network: LanguageModel) -> None:
    with pytest.raises(InvalidRequest, match="tokens long"):
        write_on(network, "a" * 600, taste())


def test_model_that_diverged_says_so() -> None:
    network = build("tiny-llama", None, Path())
    assert isinstance(network, LanguageModel)
    torch.nn.init.constant_(network.module.lm_head.weight, float("nan"))  # type: ignore[arg-type, union-attr]
    with pytest.raises(ClientFailed, match="finite"):
        write_on(network, "a", taste())


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_k": -2}],
)
def test_taste_nobody_can_follow_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        taste(**wrong)


def test_texts_are_padded_and_padding_is_not_learned(network: LanguageModel) -> None:
    batch = tokenize(network, ["ab", "é"], max_length=3)
    assert batch["input_ids"].tolist() == [[97, 98, 257], [195, 169, 257]]
    short = tokenize(network, ["ab", ""], max_length=9)
    assert short["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert short["labels"][1].tolist() == [257, -100, -100]


def test_no_texts_are_refused(network: LanguageModel) -> None:
    with pytest.raises(InvalidBatch):
        tokenize(network, [], max_length=8)
    with pytest.raises(InvalidRequest):
        tokenize(network, ["a"], max_length=1)
