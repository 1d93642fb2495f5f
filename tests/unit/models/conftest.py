"""A registry with a database of its own, and something learned to put into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tg_workbench.identity import Principal
from tg_workbench.models import Learned
from tg_workbench.storage import Blobs

ALICE = Principal("alice", "acme", frozenset(("read", "train")))
BOB = Principal("bob", "acme", frozenset(("read", "train")))
Learn = Callable[..., Learned]


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    """A folder of files."""
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def learn() -> Learn:
    """Something that Alice has learned; what is named replaces what is said of it."""

    def learned(**more: Any) -> Learned:
        network = torch.nn.Linear(4, 2)
        told = {
            "owner_id": ALICE.id,
            "tenant_id": ALICE.tenant_id,
            "model_ref": "mlp",
            "task": "classification",
            "weights": safetensors.torch.save(dict(network.state_dict())),
            "performance": {"accuracy": 0.5},
        }
        return Learned(**{**told, **more})

    return learned
