"""The jobs table, the cards and the predict box as a person sees them: published by Voila inside Jupyter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.widgets.conftest import EVIL
from tests.widgets.lab import Lab, Visit

LEARN = f"""
import polars as pl
from tg_widgets import DatasetCard, JobsTable, ModelCard, PredictBox
from tg_workbench import Workbench
wb = Workbench()
table = pl.DataFrame({{
    "age": [20 + number % 60 for number in range(120)],
    "smokes": ["often" if number % 3 else "never" for number in range(120)],
    "sick": ["yes" if number % 60 > 30 else "no" for number in range(120)],
}})
evil = {EVIL!r}
dataset = wb.datasets.upload(table, evil, target="sick", privacy="public", progress=False)
quick = {{"epochs": 40, "batch_size": 20, "learning_rate": 0.05, "hidden_sizes": [8]}}
job = wb.jobs.submit("mlp", dataset, name=evil, **quick)
job.wait(timeout=240, progress=False)
jobs, data, model, box = JobsTable(wb), DatasetCard(dataset), ModelCard(job.model), PredictBox(job.model)"""


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    visit = Visit(browser)
    yield visit
    assert visit.outside == []
    assert visit.errors == []
    visit.close()


def card(visit: Visit, name: str) -> Locator:
    return visit.page.locator(f".tgw-{name}")


def test_what_there_is_to_know_is_on_the_page_and_follows_the_reader_into_the_dark(
    lab: Lab, visit: Visit
) -> None:
    lab.write("cards.ipynb", LEARN, "jobs", "data", "model", "box")
    visit.open(lab.url("voila/render/cards.ipynb"))
    row = card(visit, "jobs").locator("tbody tr", has_text="img src=x").first
    row.wait_for(timeout=120_000)
    row.get_by_text("Completed").wait_for()
    row.get_by_role("progressbar", name="Progress").wait_for()
    row.get_by_role("img", name="val loss").wait_for()
    card(visit, "dataset-card").get_by_role("table", name="First rows").wait_for()
    card(visit, "model-card").get_by_text("No guarantee", exact=True).wait_for()
    predicted_by_keyboard(visit, card(visit, "predict-box"))
    logged_by_keyboard(visit, row)
    assert visit.page.title() == "cards", "a name is text, and nothing else"
    names = ("jobs-card", "dataset-card", "model-card", "predict-box")
    for name in names:
        visit.sees(card(visit, name), lambda coloured, light: coloured > 200 and light > 0.75)
    visit.page.emulate_media(color_scheme="dark")
    for name in names:
        visit.sees(card(visit, name), lambda coloured, light: coloured > 200 and light < 0.3)


def predicted_by_keyboard(visit: Visit, box: Locator) -> None:
    """Ask with the keyboard alone: first what cannot be meant, then what can."""
    age: Any = box.get_by_label("age")
    age.fill("old")
    age.press("Enter")
    box.get_by_role("alert").get_by_text("Must be a number.").wait_for()
    assert age.get_attribute("aria-invalid") == "true"
    age.fill("75")
    age.press("Enter")
    box.locator(".tgw-label").wait_for(timeout=60_000)
    expect(box.locator(".tgw-bars li")).to_have_count(2)
    assert age.input_value() == "75", "what was filled in stays"


def logged_by_keyboard(visit: Visit, row: Locator) -> None:
    """Open the log of a job and close it again; the focus stays on its button."""
    row.get_by_role("button", name="Log").focus()
    visit.page.keyboard.press("Enter")
    visit.page.get_by_role("log").get_by_text("Epoch 40/40").wait_for()
    focused = "document.activeElement.getAttribute('aria-expanded')"
    assert visit.page.evaluate(focused) == "true"
    visit.page.keyboard.press("Enter")
    visit.page.get_by_role("log").wait_for(state="hidden")
    assert visit.page.evaluate(focused) == "false"
