"""JupyterLab: what somebody sees who opens the first notebook, and presses the buttons of its panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.browser.conftest import NewClient, NewVisit, Watchman
from tests.browser.panel import Panel, Watch, errors_of_the_notebook
from tests.widgets.lab import Lab, Visit
from tg_workbench import TrainingClient

NOTEBOOK = "101_first_private_model.ipynb"
PICTURE_BYTES = 300_000
WIDTH = 1060
FOLLOW = """
from tg_widgets import TrainingPanel
from tg_workbench import Workbench
wb = Workbench()
TrainingPanel(wb.attach("{}"))"""
RESTART = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
FITS = """() => {
  const plot = document.querySelector(".tgw-plot");
  const width = plot.querySelector("canvas").width / devicePixelRatio;
  return !document.querySelector("#jp-left-stack").offsetWidth && Math.abs(width - plot.clientWidth) < 2;
}"""
THEME = """(theme) => new Promise((resolve) => {
  window.jupyterapp.commands.execute("apputils:change-theme", { theme });
  const look = () => (document.body.dataset.jpThemeName === theme ? resolve() : requestAnimationFrame(look));
  look();
})"""


def follow(visit: Visit, lab: Lab, client: TrainingClient) -> Panel:
    """Open a notebook that shows the panel of a client."""
    lab.write("follow.ipynb", FOLLOW.format(client.id))
    visit.open(lab.notebook("follow.ipynb"))
    visit.run_all()
    return Panel(visit)


def test_the_first_notebook_runs_to_its_end_while_its_panel_moves(
    new_visit: NewVisit, lab: Lab, pictures: Path | None, watchman: Watchman
) -> None:
    visit = new_visit(viewport={"width": WIDTH, "height": 1300}, device_scale_factor=1.5 if pictures else 1)
    visit.open(lab.notebook(NOTEBOOK))
    watch = Watch(visit)
    visit.run_all()
    assert errors_of_the_notebook(visit) == []
    watch.saw_it_grow()
    panel = Panel(visit)
    panel.reaches(150)
    assert 2.5 < panel.spent <= 3.0
    assert panel.coloured(".tgw-curve canvas") > 800
    assert panel.coloured(".tgw-gauge") > 800
    assert visit.page.locator(".jp-Dialog, .Toastify__toast").count() == 0
    assert watchman.saw == []
    if pictures is not None:
        take_picture(panel, pictures / "training_panel.png")


def take_picture(panel: Panel, file: Path) -> None:
    """The picture for our words: JupyterLab from its menu down to the panel's gauge."""
    page = panel.page
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.wait_for_function(FITS)
    cell = page.locator(".jp-CodeCell", has=panel.whole)
    cell.evaluate("(node) => node.scrollIntoView({ block: 'start' })")
    lowest = panel.part(".tgw-middle-row").bounding_box()
    assert lowest
    clip: Any = {"x": 0, "y": 0, "width": WIDTH, "height": lowest["y"] + lowest["height"] + 12}
    file.parent.mkdir(exist_ok=True)
    page.screenshot(path=file, clip=clip)
    assert file.stat().st_size < PICTURE_BYTES


def test_pause_resume_and_stop_answer_within_a_second_while_training(
    visit: Visit, lab: Lab, new_client: NewClient
) -> None:
    client = new_client()
    panel = follow(visit, lab, client)
    panel.part(".tgw-steps").fill("20000")
    panel.press("train")
    panel.reaches(20)

    def resume() -> None:
        panel.press("resume")
        panel.shows("Training", "Busy")

    def pause() -> None:
        panel.press("pause")
        panel.shows("Paused")

    assert panel.answers_within_a_second("Paused", after="pause", undo=resume)
    standing = client.refresh().step
    assert panel.answers_within_a_second("Training", "Busy", after="resume", undo=pause)
    panel.reaches(standing + 20)
    assert panel.stops_within_a_second()
    panel.part(".tgw-steps").fill("5")
    panel.press("train")
    panel.says("The run is over, after 5 steps.")
    assert client.refresh().status == "ready"


def test_a_panel_follows_its_run_again_after_the_kernel_restarted(
    visit: Visit, lab: Lab, new_client: NewClient
) -> None:
    client = new_client()
    run = client.train(steps=20_000, progress=False)
    panel = follow(visit, lab, client)
    panel.reaches(20)
    visit.page.evaluate(RESTART)
    before = client.refresh().step
    visit.run_all()
    panel.reaches(before + 20)  # not the panel of before: that one knows of no such step
    watch = Watch(visit)
    panel.reaches(client.refresh().step + 60)
    watch.saw_it_grow(times=2)
    assert panel.stops_within_a_second()
    assert run.result(timeout=60).stopped


def test_the_panel_is_light_or_dark_with_jupyterlab(visit: Visit, lab: Lab, new_client: NewClient) -> None:
    client = new_client(max_steps=50)
    client.train(steps=50, progress=False)
    panel = follow(visit, lab, client)
    panel.reaches(50)
    panel.is_seen(lambda coloured, light: coloured > 2000 and light > 0.8)
    visit.page.evaluate(THEME, "JupyterLab Dark")
    panel.is_seen(lambda coloured, light: coloured > 2000 and light < 0.25)
