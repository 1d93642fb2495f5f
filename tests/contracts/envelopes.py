"""Every contract's envelope around an error, as its document shows it: what a refusal has to look like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tg_workbench.contracts.statuses import PHRASES

INVALID = {"aitip": 400, "qflare": 422, "deep_learning": 400, "coordination": 400, "open_inference": 400}
"""The status of a request that is not valid; TG-Tinker's and our own is 422."""
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
OF_OAUTH = {"/api/v1/auth/token", "/api/v1/auth/revoke", "/api/v1/auth/introspect"}


class Answer(Protocol):
    """A response of httpx, or of the test client, which has a class of its own."""

    status_code: int

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def text(self) -> str: ...
    def json(self) -> Any: ...


@dataclass(frozen=True)
class Refusal:
    """What an error says: `code` is as its contract spells it."""

    status: int
    code: str
    message: str


def invalid_in(contract: str) -> int:
    """The status that `contract` has for a request that is not valid."""
    return INVALID.get(contract, 422)


def refusal(answer: Answer, contract: str) -> Refusal:
    """The error in an answer. Its envelope is checked to the last member; a 2xx fails."""
    assert answer.status_code >= 400, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    found = READ.get(contract, _tg_tinker)(answer, body)
    assert found.message.strip()
    return found


def _tg_tinker(answer: Answer, body: dict[str, Any]) -> Refusal:
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"code", "message", "details", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert re.fullmatch("[A-Z_]+", error["code"])
    return Refusal(answer.status_code, error["code"], error["message"])


def _aitip(answer: Answer, body: dict[str, Any]) -> Refusal:
    assert set(body) == {"success", "error"}
    assert body["success"] is False
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["code"] == PHRASES[answer.status_code]
    return Refusal(answer.status_code, body["error"]["code"], body["error"]["message"])


def _qflare(answer: Answer, body: dict[str, Any]) -> Refusal:
    found = _tg_tinker(answer, body)
    assert TIME.fullmatch(body["error"]["details"]["timestamp"])
    return found


def _deep_learning(answer: Answer, body: dict[str, Any]) -> Refusal:
    assert {"error", "message"} <= set(body) <= {"error", "message", "details", "retry_after", "request_id"}
    assert re.fullmatch("[a-z_]+", body["error"])
    for problem in body.get("details", ()):
        assert set(problem) == {"field", "message"}
    assert isinstance(body.get("retry_after", 0), int)
    assert ("request_id" in body) == (answer.status_code == 500)
    return Refusal(answer.status_code, body["error"], body["message"])


def _coordination(answer: Answer, body: dict[str, Any]) -> Refusal:
    assert {"error"} <= set(body) <= {"error", "details", "code"}
    assert all(isinstance(value, str) for value in body.values())
    return Refusal(answer.status_code, body.get("code", ""), body["error"])


def _open_inference(answer: Answer, body: dict[str, Any]) -> Refusal:
    assert set(body) == {"error"}
    return Refusal(answer.status_code, "", body["error"])


READ = {
    "open_inference": _open_inference,
    "aitip": _aitip,
    "qflare": _qflare,
    "deep_learning": _deep_learning,
    "coordination": _coordination,
}


def oauth_refusal(answer: Answer) -> None:
    """An error as RFC 6749, section 5.2, has it."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "error_description"}
    assert re.fullmatch("[a-z_]+", body["error"])


def page_refusal(answer: Answer) -> None:
    """An error that a person reads, in a page of ours that nobody else shows or stores."""
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def refusal_at(path: str, answer: Answer, contract: str) -> None:
    """An error in the form that this path has: OAuth's routes speak as its standards do, or to a person.

    A method that a path has not is no route's, and its contract's to refuse.
    """
    if answer.status_code == 405:
        refusal(answer, contract)
    elif path == "/api/v1/auth/authorize":
        page_refusal(answer)
    elif path in OF_OAUTH:
        oauth_refusal(answer)
    else:
        refusal(answer, contract)
