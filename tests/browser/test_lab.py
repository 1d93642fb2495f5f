"""JupyterLab: what somebody sees who opens the first notebook, and presses the buttons of its panel."""

from __future__ import annotations

from pathlib import Path

from tests.browser.conftest import NewVisit, Watchman
from tests.browser.panel import Panel, Watch, errors_of_the_notebook
from tests.widgets.lab import Lab

ATTACH = """
from pathlib import Path
from tg_widgets import TrainingPanel
wb = Workbench()
client = wb.attach(Path("client").read_text())"""
RESTART = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"


def test_the_first_notebook_runs_to_its_end_while_its_panel_moves(
    new_visit: NewVisit, lab: Lab, pictures: Path | None, watchman: Watchman
) -> None:
    visit = new_visit(viewport={"width": 1060, "height": 1000}, device_scale_factor=2 if pictures else 1)
    visit.open(lab.url("lab/tree/101_first_private_model.ipynb?reset"))
    watch = Watch(visit)
    visit.run_all()
    assert errors_of_the_notebook(visit) == []
    watch.saw_it_grow()
    panel = Panel(visit)
    panel.reaches(150)
    assert 2.5 < panel.spent <= 3.0
    assert panel.coloured(".tgw-curve canvas") > 800
    assert panel.coloured(".tgw-gauge") > 800
    assert visit.page.locator(".jp-Dialog, .jp-Notification").count() == 0
    assert watchman.saw == []
    if pictures is not None:
        take_pictures(panel, pictures)


def take_pictures(panel: Panel, folder: Path) -> None:
    """The picture for our words, and its dark sister beside it in test-results."""
    page = panel.page
    page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.wait_for_timeout(1000)
    page.screenshot(path=folder / "x.png")
