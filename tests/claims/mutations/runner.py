"""Runs the test of every planted bug in a process of its own, two at a time, and prints how each ended.

The processes are forked from this one, which has imported what takes long and nothing of ours. One line of
JSON per bug: its name, pytest's status, and the end of what it said.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

import dp_accounting.pld.privacy_loss_distribution  # noqa: F401 - imported before the forks, once for all
import httpx  # noqa: F401
import nbmake.pytest_items  # noqa: F401
import opacus  # noqa: F401
import pytest
import schemathesis.pytest.xdist  # noqa: F401
import scipy.stats  # noqa: F401
import sqlmodel  # noqa: F401
import torch._dynamo  # noqa: F401
from planted import MUTATIONS, VARIABLE, plant  # type: ignore[import-not-found]  # beside this file
from transformers import LlamaForCausalLM  # noqa: F401

AT_ONCE = 2


def begin(name: str) -> tuple[int, Path]:
    """Fork a process that plants the bug and runs its test."""
    told = Path(tempfile.mkstemp(prefix="tgw-mutation-")[1])
    child = os.fork()
    if child:
        return child, told
    status = 70
    try:
        out = os.open(told, os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ[VARIABLE] = name
        plant(name)
        quiet = ["-q", "-x", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        status = pytest.main([*quiet, MUTATIONS[name].test])
        sys.stdout.flush()
    finally:
        os._exit(status)


def main() -> None:
    """Every bug, one after the other, `AT_ONCE` at a time."""
    for plugin in entry_points(group="pytest11"):
        plugin.load()
    gc.freeze()  # what was imported is no garbage: the forks need not look at it, nor copy it
    assert not any(module.startswith("tg_workbench") for module in sys.modules)
    waiting = list(MUTATIONS)
    running: dict[int, tuple[str, Path]] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name = waiting.pop(0)
            child, told = begin(name)
            running[child] = (name, told)
        child, status = os.wait()
        name, told = running.pop(child)
        result = {"name": name, "status": os.waitstatus_to_exitcode(status), "said": told.read_text()[-3000:]}
        told.unlink()
        print(json.dumps(result), flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()
