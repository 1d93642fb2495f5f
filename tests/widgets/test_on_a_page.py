"""The widgets as a person sees them: in JupyterLab, and published by Voila inside Jupyter."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from filecmp import dircmp
from pathlib import Path
from typing import Any

import httpx
import pytest
from jupyter_core.paths import ENV_JUPYTER_PATH
from playwright.sync_api import Browser

from tests.widgets.lab import Lab, Visit

CURVE = """
import math, threading, time
from tg_widgets import BudgetGauge, LiveCurve
curve = LiveCurve(title="Learning")
def learn():
    for step in range(1, 151):
        curve.append("loss", step, 0.1 + math.exp(-step / 40))
        time.sleep(0.02)
threading.Thread(target=learn, daemon=True).start()
curve"""
GAUGE = """
BudgetGauge(dict(
    guarantee="differential_privacy", mode="sampled",
    target_epsilon=3.0, spent_epsilon=1.5, delta=1e-5, steps=10))"""
UPLOAD = """
import numpy as np
from tg_workbench import Workbench
random = np.random.default_rng(7)
features = random.normal(size=(256, 4)).astype("float32")
targets = (features.sum(axis=1) > 0).astype("int64")
Workbench().datasets.upload("rows of a test", features=features, targets=targets);"""
EARLY = """
from tg_widgets import LiveCurve
curve = LiveCurve(title="Learning")
curve.append("loss", range(1, 1001), [1 / step for step in range(1, 1001)])
curve"""
INTERLEAVED = """
from tg_widgets import LiveCurve, Series
curve = LiveCurve([Series("loss", "Loss"), Series("epsilon", "ε spent", "right")], title="Learning")
curve.append("loss", range(0, 400, 2), [1 + step / 400 for step in range(0, 400, 2)])
curve.append("epsilon", range(1, 401, 2), [0.0] * 200)
curve"""
PLANNER = """
from tg_widgets import PrivacyPlanner
PrivacyPlanner()"""
PROSE = "# A page\\nIts formula is $E = mc^2$."
ICON = "import ipywidgets; ipywidgets.Button(icon='floppy-o')"
DRAWN = ".tgw-curve .uplot canvas"


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    visit = Visit(browser)
    yield visit
    assert visit.outside == []
    visit.close()


def reads(visit: Visit, text: str, seconds: float = 60) -> None:
    """Wait until the curve's readout says this."""
    visit.page.locator(".tgw-readout", has_text=text).first.wait_for(timeout=seconds * 1000)


def test_a_published_page_shows_the_whole_curve_and_the_gauge(lab: Lab, visit: Visit) -> None:
    lab.write("page.ipynb", PROSE, CURVE, GAUGE, ICON)
    visit.open(lab.url("voila/render/page.ipynb"))
    reads(visit, "step 150")
    for part in (".tgw-curve", ".tgw-gauge"):
        visit.sees(visit.page.locator(part), lambda coloured, _: coloured > 800)
    assert visit.page.locator(".tgw-gauge [role=meter]").get_attribute("aria-valuenow") == "1.5"
    assert visit.page.locator("#rendered_cells").bounding_box()["height"] > 500  # type: ignore[index]
    assert visit.errors == []


def test_a_published_page_has_its_mathematics_and_icons_without_the_internet(lab: Lab, visit: Visit) -> None:
    lab.write("page.ipynb", PROSE, CURVE, GAUGE, ICON)
    visit.open(lab.url("voila/render/page.ipynb"))
    visit.page.wait_for_selector("mjx-container", timeout=60_000)
    visit.page.wait_for_selector(".fa-floppy-o")
    font = "document.fonts.load('400 14px \"Font Awesome 5 Free\"').then((found) => found.length)"
    assert visit.page.evaluate(font) > 0


def test_no_script_of_a_published_page_names_a_place_outside(lab: Lab) -> None:
    lab.write("early.ipynb", EARLY)
    page = httpx.get(lab.url("voila/render/early.ipynb"), timeout=60).text
    assert "rendered_cells" in page
    assert "cdn" not in page.lower()


def test_a_running_mean_is_drawn_where_series_were_measured_at_other_steps(lab: Lab, visit: Visit) -> None:
    lab.write("page.ipynb", INTERLEAVED)
    visit.open(lab.url("voila/render/page.ipynb"))
    reads(visit, "step 399")
    curve = visit.page.locator(".tgw-plot")
    visit.sees(curve, lambda coloured, _: coloured > 500)
    raw, _ = visit.picture(curve)
    visit.page.get_by_role("button", name="Smooth").click()
    visit.page.locator("button[aria-pressed=true]", has_text="Smooth").wait_for()
    visit.page.wait_for_timeout(300)
    visit.sees(curve, lambda coloured, _: coloured > 0.8 * raw > 400)


def test_a_zoomed_curve_stays_so_on_another_scale(lab: Lab, visit: Visit) -> None:
    lab.write("page.ipynb", EARLY)
    visit.open(lab.url("voila/render/page.ipynb"))
    reads(visit, "step 1,000")
    box = visit.page.locator(".u-over").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    visit.page.mouse.move(box["x"] + 0.25 * box["width"], middle)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 0.5 * box["width"], middle, steps=5)
    visit.page.mouse.up()
    whole = visit.page.get_by_role("button", name="Show all")
    whole.wait_for()
    visit.page.get_by_role("button", name="Log").click()
    visit.page.locator("button[aria-pressed=true]", has_text="Log").wait_for()
    visit.page.wait_for_timeout(300)
    visit.page.mouse.move(box["x"] + 0.98 * box["width"], middle)
    right_end = re.compile(r"^step (3[5-9]\d|4\d\d|5[0-4]\d)$")  # that of the stretch that was chosen
    visit.page.locator(".tgw-readout li").last.filter(has_text=right_end).wait_for()
    whole.click()
    visit.page.mouse.move(box["x"] + 0.97 * box["width"], middle)
    reads(visit, "step 9")


def test_points_from_before_the_page_opened_are_drawn(lab: Lab, visit: Visit) -> None:
    lab.write("early.ipynb", EARLY)
    visit.open(lab.url("voila/render/early.ipynb"))
    reads(visit, "step 1,000")
    visit.sees(visit.page.locator(DRAWN), lambda coloured, _: coloured > 300)


def test_a_run_is_planned_on_the_page(lab: Lab, visit: Visit) -> None:
    lab.write("planner.ipynb", PLANNER)
    visit.open(lab.url("voila/render/planner.ipynb"))
    said = visit.page.locator(".tgw-plan")
    said.filter(has_text="ε = 3 at").wait_for(timeout=60_000)
    reads(visit, "ε of this run")
    visit.page.get_by_label("Passes").fill("")
    visit.page.get_by_text("Passes must be a number above zero.").wait_for()
    visit.page.get_by_label("Passes").fill("20")
    visit.page.get_by_label("You give").select_option(label="the noise multiplier σ")
    visit.page.get_by_role("spinbutton", name="Noise multiplier σ").fill("2")
    said.filter(has_text="at σ = 2, q").wait_for()
    assert not visit.page.get_by_role("spinbutton", name="Target ε").is_visible()
    reads(visit, "ε of the plan before")
    visit.page.emulate_media(color_scheme="dark")
    visit.sees(visit.page.locator(".tgw-planner"), lambda _, light: light < 0.25)
    assert visit.outside == []
    assert visit.errors == []


@pytest.mark.parametrize(("scheme", "query"), [("dark", ""), ("light", "?theme=dark")])
def test_a_published_page_can_be_dark(lab: Lab, browser: Browser, scheme: Any, query: str) -> None:
    lab.write("early.ipynb", EARLY)
    visit = Visit(browser, scheme=scheme)
    visit.open(lab.url(f"voila/render/early.ipynb{query}"))
    reads(visit, "step 1,000")
    visit.sees(visit.page.locator("body"), lambda coloured, light: light < 0.25 and coloured > 300)
    assert visit.outside == []
    visit.close()


def test_a_page_follows_the_reader_into_the_dark(lab: Lab, visit: Visit) -> None:
    lab.write("early.ipynb", EARLY)
    visit.open(lab.url("voila/render/early.ipynb"))
    reads(visit, "step 1,000")
    visit.sees(visit.page.locator(".tgw-curve"), lambda _, light: light > 0.8)
    visit.page.emulate_media(color_scheme="dark")
    visit.sees(visit.page.locator(".tgw-curve"), lambda _, light: light < 0.25)


def test_the_list_of_pages_needs_no_internet(lab: Lab, visit: Visit) -> None:
    lab.write("early.ipynb", EARLY)
    visit.open(lab.url("voila/tree"))
    visit.page.get_by_text("early.ipynb").first.wait_for(timeout=60_000)


def test_pages_are_behind_the_login_of_jupyter(lab: Lab) -> None:
    lab.write("early.ipynb", EARLY)
    answer = httpx.get(f"http://127.0.0.1:{lab.port}/voila/render/early.ipynb")
    assert answer.status_code == 302
    assert "/login" in answer.headers["location"]


def test_in_lab_the_curve_grows_and_a_reload_brings_it_back(lab: Lab, visit: Visit) -> None:
    lab.write("live.ipynb", CURVE.replace("151", "301"))
    visit.open(lab.notebook("live.ipynb"))
    visit.run_all()
    visit.page.wait_for_selector(DRAWN, timeout=60_000)
    visit.sees(visit.page.locator(DRAWN), lambda coloured, _: coloured > 100)
    reads(visit, "step 300")
    visit.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    visit.page.wait_for_timeout(500)
    visit.open(lab.url("lab/tree/live.ipynb"))
    reads(visit, "step 300")
    visit.sees(visit.page.locator(DRAWN), lambda coloured, _: coloured > 300)


def test_leaving_a_published_page_ends_its_kernel(lab: Lab, visit: Visit) -> None:
    lab.write("early.ipynb", EARLY)
    before = lab.kernels()
    visit.open(lab.url("voila/render/early.ipynb"))
    reads(visit, "step 1,000")
    (kernel,) = lab.kernels() - before
    visit.leave()
    deadline = time.monotonic() + 20
    while kernel in lab.kernels():
        assert time.monotonic() < deadline, "the kernel of the page still runs"
        visit.page.wait_for_timeout(200)


def train_and_stop(visit: Visit) -> float:
    """Let the panel train for a moment, then press Stop: the seconds until it can train again."""
    press = visit.page.locator
    press(".tgw-steps").fill("5000")
    press("[data-action=train]:enabled").click()
    press("[data-action=stop]:enabled").wait_for()
    visit.page.wait_for_timeout(1_000)
    asked = time.monotonic()
    press("[data-action=stop]").click()
    press("[data-action=train]:enabled").wait_for()
    return time.monotonic() - asked


def test_in_lab_the_panel_creates_trains_and_stops_within_a_second(lab: Lab, visit: Visit) -> None:
    lab.write("panel.ipynb", UPLOAD, "from tg_widgets import TrainingPanel\nTrainingPanel()")
    visit.open(lab.notebook("panel.ipynb"))
    visit.run_all()
    press = visit.page.locator
    press("[data-action=create]").wait_for(timeout=60_000)
    press("[name=dataset_id] option", has_text="rows of a test").wait_for(state="attached")
    press("[name=steps]").fill("20000")
    press("[data-action=create]").click()
    press("[data-action=train]:enabled").wait_for(timeout=60_000)
    press("[data-action=train]").focus()
    visit.page.keyboard.press("Enter")
    press("[data-action=stop]:enabled").wait_for()
    focused = "document.activeElement.dataset.action"
    assert visit.page.evaluate(focused) in ("pause", "stop"), "the keyboard is still in the row of buttons"
    press("[data-action=stop]").click()
    press("[data-action=train]:enabled").wait_for()
    assert any(train_and_stop(visit) < 1.0 for _ in range(5))  # others may be at work on the machine
    for part in (".tgw-curve", ".tgw-gauge"):
        visit.sees(visit.page.locator(part), lambda coloured, _: coloured > 500)
    assert visit.errors == []


def test_the_template_that_is_installed_is_the_one_that_lies_here() -> None:
    source = Path(__file__).parents[2] / "server_extension" / "voila-template" / "tg"
    installed = next(
        path for root in ENV_JUPYTER_PATH if (path := Path(root) / "voila" / "templates" / "tg").is_dir()
    )
    compared = dircmp(source, installed)
    different = compared.left_only + compared.right_only + compared.diff_files
    assert different == [], "run: pip install -e ."
