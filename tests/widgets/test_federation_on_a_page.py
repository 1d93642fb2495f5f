"""The federation panel and the key status as a person sees them: published by Voila inside Jupyter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.widgets.conftest import EVIL
from tests.widgets.lab import Lab, Visit

LEARN = f"""
import tempfile
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from tg_widgets import FederationPanel, KeyStatus
from tg_workbench import Workbench
from tg_workbench.sdk.device import Device
wb = Workbench()
folder = tempfile.mkdtemp()
random = np.random.default_rng(1)
features = random.normal(size=(90, 4)).astype("float32")
targets = (features[:, 0] > 0).astype("int64")
devices = []
for number, name in enumerate(["ward 4", "ward 5", {EVIL!r}]):
    token = wb.devices.enrollment_token()
    place = {{"folder": f"{{folder}}/{{number}}", "name": name}}
    devices.append(Device.enroll(token.enrollment_token, token.organization_id, **place))
campaign = wb.federation.start(
    "logistic", input_shape=[4], output_size=2, rounds=3, learning_rate=0.5, min_participants=2,
    max_participants=2, name="wards",
)
with ThreadPoolExecutor(2) as pool:
    for number, device in enumerate(devices[:2]):
        part = slice(30 * number, 30 * number + 30)
        pool.submit(device.learn, {{"features": features[part], "targets": targets[part]}}, rounds=3)
campaign.wait(timeout=120, progress=False)
wb.devices.rotate_keys(devices[0].id)
wb.devices.revoke(devices[2].id)
panel, keys = FederationPanel(campaign), KeyStatus(wb)"""


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    visit = Visit(browser)
    yield visit
    assert visit.outside == []
    assert visit.errors == []
    visit.close()


def test_a_federation_and_its_keys_are_on_the_page_and_follow_the_reader_into_the_dark(
    lab: Lab, visit: Visit
) -> None:
    lab.write("federation.ipynb", LEARN, "panel", "keys")
    visit.open(lab.url("voila/render/federation.ipynb"))
    board, keys = visit.page.locator(".tgw-federation"), visit.page.locator(".tgw-key-status")
    rounds = board.get_by_role("table", name="Rounds, the newest first")
    rounds.wait_for(timeout=150_000)
    expect(rounds.locator("tbody tr")).to_have_count(3)
    tiles = board.get_by_role("list", name="Devices").locator("li")
    expect(tiles.filter(has_text="accepted")).to_have_count(2)
    tiles.filter(has_text="img src=x").get_by_text("revoked").wait_for()
    board.get_by_text("no guarantee").wait_for()
    expect(board.get_by_role("list", name="Rounds").locator("li")).to_have_count(3)
    visit.page.locator(".tgw-readout", has_text="round 3").first.wait_for()
    expect(keys.locator("tbody tr")).to_have_count(3)
    keys.get_by_text("New ones due").wait_for()
    keys.get_by_role("button", name="Rotate the keys of ward 5").click()
    keys.locator("tbody tr", has_text="ward 5").get_by_text("New ones due").wait_for()
    assert visit.page.title() == "federation", "a name is text, and nothing else"
    for each in (board, keys):
        visit.sees(each, lambda coloured, light: coloured > 200 and light > 0.75)
    visit.page.emulate_media(color_scheme="dark")
    for each in (board, keys):
        visit.sees(each, lambda coloured, light: coloured > 200 and light < 0.3)


def test_the_dashboard_opens_and_finds_its_workbench(lab: Lab, visit: Visit) -> None:
    dashboard = Path(__file__).parents[2] / "notebooks" / "dashboards" / "federation.ipynb"
    shutil.copy(dashboard, lab.root / "dashboard.ipynb")
    visit.open(lab.url("voila/render/dashboard.ipynb"))
    board, keys = visit.page.locator(".tgw-federation"), visit.page.locator(".tgw-key-status")
    board.get_by_text("offline", exact=True).wait_for(timeout=90_000)
    keys.get_by_text("Interval").wait_for()
    for part in (board, keys):
        expect(part.get_by_text("Not connected")).to_have_count(0)
