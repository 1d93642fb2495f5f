"""Every error of ours has a code in TG-Tinker's words, and a stranger's text stays inside."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tg_workbench import errors
from tg_workbench.contracts.failures import Failure, OperationFailed
from tg_workbench.contracts.tg_tinker.errors import code_of, render


def family(kind: type[errors.WorkbenchError]) -> Iterator[type[errors.WorkbenchError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


@pytest.mark.parametrize("kind", sorted(set(family(errors.WorkbenchError)), key=str))
def test_every_error_has_a_code_and_a_status(kind: type[errors.WorkbenchError]) -> None:
    code, status = code_of(Failure(kind, "so"))
    assert code.isupper()
    assert 400 <= status <= 507


def test_a_spent_budget_is_never_a_status_that_clients_retry() -> None:
    assert code_of(Failure(errors.BudgetExhausted, "spent")) == ("DP_BUDGET_EXCEEDED", 400)


def test_a_strangers_text_is_not_told() -> None:
    failure = Failure.of(RuntimeError("row 4711 of patients.csv"))
    answer = render(failure, "req-1")
    assert answer.status_code == 500
    assert b"4711" not in bytes(answer.body)
    assert json.loads(bytes(answer.body))["error"]["request_id"] == "req-1"


def test_facts_that_are_not_finite_can_be_told() -> None:
    failure = Failure(errors.BudgetExhausted, "spent", {"next_epsilon": float("inf")})
    assert json.loads(bytes(render(failure, "").body))["error"]["details"] == {"next_epsilon": None}


def test_a_stored_error_is_told_as_it_was_raised() -> None:
    raised = errors.BudgetExhausted(spent=2.5, target=3.0, next_epsilon=3.5)
    told = Failure.of(OperationFailed(raised.as_record(), "fut-1"))
    assert (told.kind, told.message) == (errors.BudgetExhausted, str(raised))
    assert told.details == {**raised.details, "future_id": "fut-1"}


@pytest.mark.parametrize(
    ("status", "code"), [(404, "NOT_FOUND"), (405, "METHOD_NOT_ALLOWED"), (413, "PAYLOAD_TOO_LARGE")]
)
def test_what_the_framework_refuses_has_our_words(status: int, code: str) -> None:
    failure = Failure.of(HTTPException(status, headers={"Allow": "GET"}))
    assert code_of(failure) == (code, status)
    assert failure.headers["Allow"] == "GET"


def test_problems_say_where_and_are_not_endless() -> None:
    problem = {
        "type": "int_type",
        "loc": ("body", "rows", 3),
        "msg": "Input should be a valid integer",
        "input": "x",
    }
    failure = Failure.of(RequestValidationError([problem] * 50))
    assert failure.message == "body.rows.3: Input should be a valid integer (and 49 more)"
    assert len(failure.details["problems"]) == 10
    assert "input" not in failure.details["problems"][0]


def test_a_text_of_the_wrong_shape_is_told_what_it_has_to_be() -> None:
    problem = {
        "type": "string_pattern_mismatch",
        "loc": ("body", "name"),
        "msg": "String should match pattern '^[a-z]{1,9}$'",
    }
    failure = Failure.of(RequestValidationError([problem]))
    assert failure.message == "body.name: must be 1 to 9 of small letters"
