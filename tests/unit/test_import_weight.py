"""What may not be imported: torch costs a newcomer seconds before the first line, and the API its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "opacus", "sklearn", "scipy", "dp_accounting")
API_HEAVY = (*HEAVY, "numpy", "tokenizers", "gguf", "polars", "PIL", "safetensors")


def imported_by(module: str) -> set[str]:
    """The top-level modules that a fresh Python holds after importing one."""
    script = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


@pytest.mark.parametrize("module", ["tg_workbench", "tg_workbench.sdk", "tg_widgets", "tg_server_extension"])
def test_the_notebook_side_never_imports_torch(module: str) -> None:
    assert imported_by(module).isdisjoint(HEAVY)


def test_a_device_imports_torch_only_to_learn() -> None:
    assert imported_by("tg_workbench.device.commands").isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "module",
    [
        "tg_workbench.main",
        "tg_workbench.__main__",
        "tg_workbench.training",
        "tg_workbench.datasets",
        "tg_workbench.datasets.files",
        "tg_workbench.execution",
        "tg_workbench.crypto.certificates",
        "tg_workbench.crypto.envelopes",
        "tg_workbench.federation.updates.secure_aggregation",
    ],
)
def test_the_api_process_imports_nothing_that_computes(module: str) -> None:
    assert imported_by(module).isdisjoint(API_HEAVY)


def test_zygote_leaves_the_gpu_to_its_children() -> None:
    """CUDA does not survive a fork: what is imported before one must not start it."""
    script = """if True:
    from tg_workbench.training import worker
    worker.preload()
    import torch
    assert not torch.cuda.is_initialized()"""
    subprocess.run([sys.executable, "-c", script], check=True)
