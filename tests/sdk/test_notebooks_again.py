"""Who learns runs notebooks again, on one workbench and in any order."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.workbench_server import WorkbenchServer

FOLDER = Path(__file__).parents[2] / "notebooks"
WARD = '"ward"'
"""The name of a dataset that two notebooks upload, with rows drawn anew and each with a cap of its own."""


def run_to_the_ward(name: str) -> None:
    """Run a notebook to the end of the cell that uploads the ward; any error of it is one of ours."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    sources = [cell.source if cell.cell_type == "code" else "" for cell in notebook.cells]
    last = next(number for number, source in enumerate(sources) if WARD in source)
    notebook.cells = notebook.cells[: last + 1]
    where = {"metadata": {"path": FOLDER}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=where).execute()


def test_notebooks_that_share_a_name_run_after_one_another_and_again(
    notebook_server: WorkbenchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second cap is lower than the first, and the second run of the last spends its budget once more.

    They run on the workbench that nbmake's runs of them may find later, so that those may be the third.
    """
    for name, value in {**notebook_server.environment, "TG_HOME": str(notebook_server.home)}.items():
        monkeypatch.setitem(os.environ, name, value)
    run_to_the_ward("203_where_epsilon_goes.ipynb")
    for _ in range(2):
        run_to_the_ward("401_operate_the_workbench.ipynb")
