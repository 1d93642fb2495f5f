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


def outputs_of(sources: list[str]) -> list[list[Any]]:
    """What the cells of a notebook show, once it has run."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


@pytest.fixture
def outputs(
    workbench_server: WorkbenchServer, public_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> list[list[Any]]:
    """What each cell shows, once the notebook has run."""
    for name, value in {**workbench_server.environment, "DATASET": public_dataset.id}.items():
        monkeypatch.setitem(os.environ, name, value)
    return outputs_of(CELLS)


def test_a_cell_shows_one_bar_that_reaches_its_end(outputs: list[list[Any]]) -> None:
    started, awaited, shown, guarantee = outputs
    assert [output.output_type for output in started] == ["display_data"]
    assert "completed · 200/200 steps" in started[0].data["text/plain"]
    assert 'value="1.0000"' in started[0].data["text/html"]
    assert awaited[0].data["text/plain"] == "200"
    assert "completed · 200/200 steps" in shown[0].data["text/plain"]
    assert guarantee[0].data["text/plain"] == "'none'"


JOB_CELLS = [
    "import os\nfrom tg_workbench import Workbench\n"
    "job = Workbench().jobs.submit('logistic', os.environ['DATASET'], epochs=2, batch_size=50)",
    "await job",
    "job.wait()",
]


@pytest.fixture
def job_outputs(
    workbench_server: WorkbenchServer, public_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> list[list[Any]]:
    """What each cell shows of a job, once the notebook has run."""
    for name, value in {**workbench_server.environment, "DATASET": public_dataset.id}.items():
        monkeypatch.setitem(os.environ, name, value)
    return outputs_of(JOB_CELLS)


def test_a_cell_that_waits_for_a_job_shows_it_once(job_outputs: list[list[Any]]) -> None:
    submitted, awaited, waited = job_outputs
    assert submitted == []
    for shown in (awaited, waited):
        assert [output.output_type for output in shown] == ["display_data"]
        assert "completed · epoch 2/2" in shown[0].data["text/plain"]
