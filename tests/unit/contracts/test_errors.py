"""One tree of errors, worded by every contract: a new error without words fails here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tests.contracts.envelopes import invalid_in, refusal
from tg_workbench import errors
from tg_workbench.contracts import failures, statuses
from tg_workbench.contracts.deep_learning import errors as deep_learning
from tg_workbench.contracts.failures import Failure, OperationFailed, Unexpected
from tg_workbench.contracts.qflare import errors as qflare
from tg_workbench.contracts.table import CONTRACTS
from tg_workbench.contracts.tg_tinker import errors as tg_tinker

TABLES: dict[str, Mapping[type[errors.WorkbenchError], Any]] = {
    "tg_tinker": tg_tinker.CODES,
    "workbench": tg_tinker.CODES,
    "aitip": statuses.STATUSES,
    "coordination": statuses.STATUSES,
    "open_inference": statuses.STATUSES,
    "qflare": qflare.CODES,
    "deep_learning": deep_learning.DEEP_LEARNING_STATUSES,
}
MISTAKES_OF_OURS = {
    errors.WorkbenchError,
    errors.InvalidSetting,
    errors.Interrupted,
    errors.KeysUnreadable,
    errors.SigningKeyUnreadable,
    errors.SignaturesUnavailable,
    errors.SealingUnavailable,
    errors.AuthorityUnusable,
    errors.AuditUnreadable,
    errors.DatabaseTooNew,
    errors.CallFailed,
    errors.AssignmentInvalid,
    errors.DeviceFolderUnusable,
    errors.TermsNotMet,
    errors.JobFailed,
    errors.CampaignFailed,
    OperationFailed,
    Unexpected,
}
"""Those that no caller can do anything about: 500 in every contract."""
REQUEST_ID = "req_550e8400-e29b-41d4-a716-446655440000"
NOT_VALID = RequestValidationError(
    [
        {
            "type": "less_than",
            "loc": ("body", "hyperparameters", "learning_rate"),
            "msg": "Must be less than 1",
        },
        {"type": "int_type", "loc": ("body", "rows", 3), "msg": "Input should be a valid integer"},
    ]
)
HAPPENED: dict[str, Exception] = {
    "not found": errors.DatasetNotFound(),
    "exists": errors.AlreadyExists("a user with this name"),
    "no credential": errors.CredentialMissing(),
    "expired": errors.TokenExpired(),
    "limited": errors.RateLimited(limit=60, window_seconds=3600, retry_after=17),
    "no path": HTTPException(404),
    "no method": HTTPException(405, headers={"Allow": "GET"}),
    "too large": HTTPException(413),
    "not valid": NOT_VALID,
    "ours": RuntimeError("row 4711 of patients.csv"),
}


def family(kind: type[errors.WorkbenchError]) -> Iterator[type[errors.WorkbenchError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


HOMES = (errors.__name__, failures.__name__)  # a room's own, like `Fenced`, never reaches a caller
KINDS = sorted(
    {kind for kind in family(errors.WorkbenchError) if kind.__module__.startswith(HOMES)},
    key=lambda kind: kind.__name__,
)


def told(contract: str, error: Exception) -> httpx.Response:
    """What `contract` says of an error."""
    answer = CONTRACTS[contract].render(Failure.of(error), REQUEST_ID)
    headers = {**answer.headers, "x-request-id": REQUEST_ID}
    return httpx.Response(answer.status_code, headers=headers, content=bytes(answer.body))


def test_every_error_is_had_from_the_package() -> None:
    ours = {kind.__name__ for kind in KINDS if kind.__module__.startswith(errors.__name__)}
    assert ours | {"error_named"} == set(errors.__all__)


def test_every_contract_has_its_table_here() -> None:
    assert set(TABLES) == set(CONTRACTS)


@pytest.mark.parametrize("contract", TABLES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_line_in_every_contract(kind: type[errors.WorkbenchError], contract: str) -> None:
    nearest = next(above for above in kind.__mro__ if above in TABLES[contract])
    assert (nearest is errors.WorkbenchError) == (kind in MISTAKES_OF_OURS)


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_told_in_the_contracts_envelope(
    kind: type[errors.WorkbenchError], contract: str
) -> None:
    answer = CONTRACTS[contract].render(Failure(kind, "so it is"), REQUEST_ID)
    headers = {**answer.headers, "x-request-id": REQUEST_ID}
    found = refusal(httpx.Response(answer.status_code, headers=headers, content=bytes(answer.body)), contract)
    assert 400 <= found.status <= 507


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("name", HAPPENED)
def test_what_happens_is_told_in_the_contracts_envelope(name: str, contract: str) -> None:
    answer = told(contract, HAPPENED[name])
    refusal(answer, contract)
    assert "4711" not in answer.text


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_request_that_is_not_valid_has_the_documents_status(contract: str) -> None:
    assert told(contract, NOT_VALID).status_code == invalid_in(contract)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_caller_over_the_limit_is_told_when_to_come_back(contract: str) -> None:
    answer = told(contract, HAPPENED["limited"])
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "17")


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_spent_budget_is_never_a_status_that_clients_retry(contract: str) -> None:
    assert told(contract, errors.BudgetExhausted(spent=2.0, target=2.0)).status_code == 400


def test_aitip_says_https_own_phrase() -> None:
    assert told("aitip", errors.InvalidRequest("Invalid training configuration")).json() == {
        "success": False,
        "error": {"code": "Bad Request", "message": "Invalid training configuration"},
    }
    assert told("aitip", HAPPENED["exists"]).json()["error"]["code"] == "Conflict"


def test_qflare_says_the_documents_codes_and_when() -> None:
    error = told("qflare", errors.Unauthenticated()).json()["error"]
    assert (error["code"], error["request_id"]) == ("INVALID_TOKEN", REQUEST_ID)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", error["details"]["timestamp"])
    assert told("qflare", errors.PermissionDenied("no")).json()["error"]["code"] == "INSUFFICIENT_PERMISSIONS"
    assert told("qflare", errors.QuotaExceeded("devices", 5)).json()["error"]["code"] == "QUOTA_EXCEEDED"


def test_the_deep_learning_platform_says_which_field() -> None:
    answer = told("deep_learning", NOT_VALID).json()
    assert answer["error"] == "validation_error"
    assert answer["details"] == [
        {"field": "learning_rate", "message": "Must be less than 1"},
        {"field": "rows", "message": "Input should be a valid integer"},
    ]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.Unauthenticated(), 401, "unauthorized"),
        (errors.PermissionDenied("no"), 403, "forbidden"),
        (errors.DatasetNotFound(), 404, "not_found"),
        (errors.AlreadyExists("a user with this name"), 400, "validation_error"),
        (RuntimeError("secret"), 500, "internal_error"),
    ],
)
def test_the_deep_learning_platform_says_the_documents_codes(
    error: Exception, status: int, code: str
) -> None:
    answer = told("deep_learning", error)
    assert (answer.status_code, answer.json()["error"]) == (status, code)


def test_the_deep_learning_platform_says_when_to_come_back_and_where_the_log_has_it() -> None:
    assert told("deep_learning", HAPPENED["limited"]).json()["retry_after"] == 17
    assert told("deep_learning", RuntimeError()).json()["request_id"] == REQUEST_ID.removeprefix("req_")


def test_coordination_says_the_documents_two_sentences() -> None:
    assert told("coordination", errors.CredentialMissing()).json()["error"] == "Missing authorization header"
    assert told("coordination", errors.TokenExpired()).json()["error"] == "Unauthorized"
    where = "body.hyperparameters.learning_rate: Must be less than 1"
    assert where in told("coordination", NOT_VALID).json()["details"]


def test_coordination_keeps_a_mistaken_setting_to_itself() -> None:
    answer = told("coordination", errors.KeysUnreadable("keys.json"))
    assert json.loads(answer.text) == {"error": "Server configuration error", "code": "INTERNAL_SERVER_ERROR"}
