"""Schemathesis tries what nobody thought of: every operation of the OpenAPI document, good data and bad.

It runs against a database of its own without workers, so operations queue up and none is waited for.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    unsupported_method,
)
from starlette.testclient import TestClient

from tests.contracts.envelopes import refusal_at
from tg_workbench.app import create_app
from tg_workbench.contracts.table import contract_name_at
from tg_workbench.settings import Settings

KEY = "k" * 20
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
HOME = Path(tempfile.mkdtemp(prefix="tgw-"))
APP = create_app(
    Settings.from_environment(
        {"TG_HOME": str(HOME), "TG_API_KEY": KEY, "DATABASE_URL": f"sqlite:///{HOME}/t.db"}
    )
)
schema = schemathesis.openapi.from_dict(APP.openapi())
# What nobody knows in a query is passed over, as everywhere on the web.
schema.config.generation.update(allow_extra_parameters=False)
# A list that is too long may be too long to read at all, which is 413: a refusal as well.
REFUSALS = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422"]
schema.config.checks.negative_data_rejection.expected_statuses = REFUSALS

FORMLESS = schema.exclude(path_regex=r"/(upload|files|validate)$").exclude(
    path="/api/v1/datasets", method="POST"
)
"""Without files in forms: what sends them reads them once, and a story looks at each request again."""


@pytest.fixture(scope="module")
def http() -> Iterator[TestClient]:
    """The application in this process."""
    APP.state.premises.database.migrate()
    APP.state.premises.stopping.set()  # nobody waits, no feed stays open
    yield TestClient(APP, base_url="http://localhost", raise_server_exceptions=False)
    APP.state.premises.database.close()


def ask(http: TestClient, case: schemathesis.Case[Any]) -> Any:
    """Send a case, signed in."""
    arguments = case.as_transport_kwargs(base_url="http://localhost", headers={"X-API-Key": KEY})
    asked = requests.Request(**arguments).prepare()  # forms become bytes here, whatever is in them
    headers = {name: value for name, value in asked.headers.items() if isinstance(value, str)}
    return http.request(str(asked.method), str(asked.url), headers=headers, content=asked.body)  # type: ignore[arg-type]


@schema.parametrize()
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_keeps_to_its_description(case: schemathesis.Case[Any], http: TestClient) -> None:
    answer = ask(http, case)
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code >= 400:
        refusal_at(case.operation.path, answer, contract_name_at(case.operation.path))


def test_what_was_made_is_used_changed_and_deleted_in_any_order(http: TestClient) -> None:
    """Stories over several operations: ids of what one has made go into the next.

    Each begins with the same database: what may be told next hangs on the answers, and where the same story
    went on otherwise the second time, because of what others had left, Hypothesis gave up.
    """
    beginning = sqlite3.connect(":memory:", check_same_thread=False)
    with contextlib.closing(sqlite3.connect(HOME / "t.db")) as database:
        database.backup(beginning)

    class Stories(FORMLESS.as_state_machine()):
        def setup(self) -> None:
            with contextlib.closing(sqlite3.connect(HOME / "t.db", timeout=20)) as database:
                beginning.backup(database)

        def call(self, case: schemathesis.Case[Any], **_: Any) -> Response:
            return Response.from_any(ask(http, case))

        def validate_response(self, response: Response, case: schemathesis.Case[Any], **_: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    Stories.run(
        settings=settings(
            max_examples=40,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
    )
