"""The SDK in a kernel: no URL, no key, and a bar that moves while other cells run."""

from __future__ import annotations

import os
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.workbench_server import WorkbenchServer
from tg_workbench.sdk import Dataset

CELLS = [
    "import os\nfrom tg_workbench import Workbench\nwb = Workbench()\n"
    "client = wb.create_training_client('mlp', dataset=os.environ['DATASET'], learning_rate=0.05)\n"
    "run = client.train(steps=200)\nrun",
    "result = await run\nresult.step",
    "run",
    "client.privacy.guarantee",
]


@pytest.fixture
def outputs(
    workbench_server: WorkbenchServer, public_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> list[list[Any]]:
    """What each cell shows, once the notebook has run."""
    for name, value in {**workbench_server.environment, "DATASET": public_dataset.id}.items():
        monkeypatch.setitem(os.environ, name, value)
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


def test_a_cell_shows_one_bar_that_reaches_its_end(outputs: list[list[Any]]) -> None:
    started, awaited, shown, guarantee = outputs
    assert [output.output_type for output in started] == ["display_data"]
    assert "completed · 200/200 steps" in started[0].data["text/plain"]
    assert 'value="1.0000"' in started[0].data["text/html"]
    assert awaited[0].data["text/plain"] == "200"
    assert "completed · 200/200 steps" in shown[0].data["text/plain"]
    assert guarantee[0].data["text/plain"] == "'none'"
