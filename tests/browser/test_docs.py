"""The API's own pages behind Jupyter: they can be read there, and what they offer to try works there."""

from __future__ import annotations

import json

from playwright.sync_api import Locator

from tests.browser.conftest import NewClient
from tests.widgets.lab import Lab, Visit
from tg_workbench import Workbench


def block(visit: Visit, method: str, path: str) -> Locator:
    """One operation of Swagger UI, opened to be tried."""
    found = visit.page.locator(
        f".opblock-{method}",
        has=visit.page.locator(f".opblock-summary-path[data-path='{path}']"),
    )
    found.locator(".opblock-summary-control").click()
    found.locator(".try-out__btn").click()
    return found


def execute(operation: Locator) -> tuple[str, str]:
    """Send it; the status and the body that come back."""
    operation.locator(".execute").click()
    answer = operation.locator(".live-responses-table tbody .response").first
    answer.wait_for()
    status = answer.locator(".response-col_status").inner_text().split()[0]
    return status, answer.locator(".highlight-code").first.inner_text()


def test_an_operation_can_be_tried_on_the_page(
    visit: Visit, lab: Lab, workbench: Workbench, new_client: NewClient
) -> None:
    client = new_client()
    visit.open(lab.url("tg/docs"))
    status, body = execute(block(visit, "get", "/api/v1/training_clients"))
    assert status == "200"
    assert client.id in body
    creating = block(visit, "post", "/api/v1/training_clients")
    asked = {"model_ref": "mlp", "architecture": {"input_shape": [4], "output_size": 2}}
    creating.locator("textarea").fill(json.dumps(asked))
    status, body = execute(creating)
    assert status == "201", body
    made = next(found for found in workbench.training_clients.list() if found.id in body)
    made.terminate()
