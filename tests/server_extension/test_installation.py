"""Installing the package is all it takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "server_extension" / "jupyter-config"
PLACES = {
    "jupyter_server_config.d/tg_server_extension.json": "etc/jupyter/jupyter_server_config.d",
    "lab-overrides.d/tg_workbench.json": "share/jupyter/lab/settings/overrides.d",
}


@pytest.mark.parametrize("source", PLACES)
def test_jupyter_finds_its_configuration_where_it_looks(source: str) -> None:
    installed = Path(sys.prefix) / PLACES[source] / Path(source).name
    assert installed.read_text() == (SOURCES / source).read_text()
