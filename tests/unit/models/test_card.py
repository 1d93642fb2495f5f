"""A card tells what is known, says what ε means and covers, and shows names as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.models.conftest import Learn
from tg_workbench.models import Model, Models, card_of
from tg_workbench.models.card import MOST_LISTED, meaning, plain
from tg_workbench.storage import Blobs, Database

PRIVATE = {"guarantee": "differential_privacy", "unit": "example", "spent_epsilon": 3.0, "delta": 1e-5}


@pytest.fixture
def card(database: Database, blobs: Blobs, tmp_path: Path, learn: Learn) -> Any:
    def card(**more: Any) -> str:
        with database.write() as session:
            model: Model = Models(session, blobs, tmp_path).register(learn(**more))
            return card_of(model)

    return card


@pytest.mark.parametrize(
    ("privacy", "said"),
    [
        ({}, "No guarantee"),
        ({"guarantee": "none", "spent_epsilon": 1.0}, "No guarantee"),
        ({"guarantee": "differential_privacy", "spent_epsilon": None}, "No guarantee"),
        (PRIVATE, "at most 20.1 times as likely"),
        ({**PRIVATE, "unit": "patient"}, "any one patient been left out"),
        ({**PRIVATE, "spent_epsilon": 900.0}, "at most e^ε times"),
        (PRIVATE, "a chance of 1e-05"),
    ],
    ids=str,
)
def test_what_privacy_means_is_one_plain_sentence(privacy: dict[str, Any], said: str) -> None:
    assert said in meaning(privacy)


def test_figures_of_private_rows_are_labelled(card: Any) -> None:
    assert "Not covered by epsilon" in card(privacy=PRIVATE)
    assert "Not covered by epsilon" not in card()
    assert "It was not measured" in card(privacy=PRIVATE, performance={})


def test_a_long_list_of_columns_is_counted(card: Any) -> None:
    columns = [{"name": f"c{number}", "type": "number"} for number in range(MOST_LISTED + 1)]
    assert "51 of them" in card(encoding={"columns": columns})
    assert "c49 (number)" in card(encoding={"columns": columns[:-1]})


def test_nothing_an_encoding_learned_from_rows_is_in_a_card(card: Any) -> None:
    column = {"name": "age", "type": "number", "middle": 41.25, "spread": 9.5, "values": ["secret"]}
    told = card(encoding={"columns": [column]})
    assert "age (number)" in told
    for learned in ("41.25", "9.5", "secret"):
        assert learned not in told


def test_somebodys_text_is_one_line_without_markup() -> None:
    assert plain("a\n# <b> *x* | `y` [z](w)") == r"a \# &lt;b&gt; \*x\* \| \`y\` \[z\]\(w\)"


def test_how_it_was_trained_is_told_in_words(card: Any) -> None:
    config = {
        "learning_rate": 0.05,
        "hidden_sizes": [8, 8],
        "schedule": {"name": "step", "step_size": 3, "gamma": 0.5, "options": {}},
        "dp": {"enabled": True, "target_epsilon": 3.0, "target_delta": None},
        "early_stopping": None,
        "texts": ["<b>", "a | b"],
    }
    told = card(training_config=config)
    for line in (
        "| learning rate | 0.05 |",
        "| hidden sizes | 8, 8 |",
        "| schedule | step: step size 3, gamma 0.5 |",
        "| dp | enabled yes, target epsilon 3 |",
        r"| texts | &lt;b&gt;, a \| b |",
    ):
        assert line in told
    assert "{" not in told.partition("## Training")[2].partition("## Performance")[0]
    assert "early" not in told
