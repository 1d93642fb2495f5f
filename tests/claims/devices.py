"""The devices that claims are tested on: the CPU, and a GPU where CUDA finds one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

CUDA: list[Any] = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICES = [
    pytest.param(torch.device("cpu"), id="cpu"),
    pytest.param(torch.device("cuda"), id="cuda", marks=CUDA),
]
