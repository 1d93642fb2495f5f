"""Voila inside Jupyter: what somebody sees who opens the dashboard, and what is refused to others."""

from __future__ import annotations

from tests.browser.conftest import NewClient, NewVisit, Watchman
from tests.browser.panel import Panel, Watch
from tests.widgets.lab import Lab, Visit
from tg_workbench import Workbench
from tg_workbench.sdk import Dataset

DASHBOARD = "voila/render/dashboards/training.ipynb"


def test_the_dashboard_is_behind_the_login_and_opens_after_it(
    visit: Visit, lab: Lab, new_client: NewClient
) -> None:
    client = new_client()
    visit.open(f"http://127.0.0.1:{lab.port}/{DASHBOARD}")
    assert "/login?next=" in visit.page.url
    visit.page.locator("#password_input").fill(lab.token)
    visit.page.locator("#login_submit").click()
    panel = Panel(visit)
    panel.part(".tgw-about", has_text=client.id[:8]).wait_for()
    assert visit.page.url.endswith(DASHBOARD)


def test_the_dashboard_follows_what_others_train_and_stops_it_within_a_second(
    visit: Visit, lab: Lab, new_client: NewClient, watchman: Watchman
) -> None:
    client = new_client()
    run = client.train(steps=20_000, progress=False)
    visit.open(lab.url(DASHBOARD))
    panel = Panel(visit)
    watch = Watch(visit)
    panel.reaches(client.refresh().step + 100)
    watch.saw_it_grow()
    assert panel.coloured(".tgw-curve canvas") > 800
    assert panel.coloured(".tgw-gauge") > 300
    assert panel.stops_within_a_second()
    assert run.result(timeout=60).stopped
    assert client.refresh().status == "ready"
    assert watchman.saw == []


def test_the_dashboard_creates_a_client_and_trains_it_to_its_limit(
    visit: Visit, lab: Lab, new_client: NewClient, workbench: Workbench, dataset: Dataset
) -> None:
    new_client()
    visit.open(lab.url(DASHBOARD))
    panel = Panel(visit)
    panel.part(".tgw-picker").select_option(label="New client …")
    panel.part("[name=dataset_id]").select_option(dataset.id)
    panel.part("[name=steps]").fill("60")
    panel.part("[name=target_epsilon]").fill("2")
    panel.press("create")
    panel.press("train")
    panel.says("The run is over, after 60 steps.")
    panel.reaches(60)
    assert 1.5 < panel.spent <= 2.0
    panel.part("[data-action=train]:disabled").wait_for()
    panel.press("terminate")
    panel.press("terminate")
    panel.shows("Terminated")
    assert workbench.training_clients.list()[0].view.ended


def test_the_dashboard_is_light_or_dark_with_its_reader(
    new_visit: NewVisit, lab: Lab, new_client: NewClient
) -> None:
    new_client(max_steps=50).train(steps=50, progress=False)
    visits = new_visit(scheme="light"), new_visit(scheme="dark")
    for visit in visits:
        visit.open(lab.url(DASHBOARD))
    panels = [Panel(visit) for visit in visits]
    for panel in panels:
        panel.reaches(50)
    light, dark = panels
    light.visit.sees(light.page.locator("body"), lambda coloured, light: coloured > 2000 and light > 0.8)
    dark.visit.sees(dark.page.locator("body"), lambda coloured, light: coloured > 2000 and light < 0.25)
