"""An optimizer step through SDK, HTTP, queue and worker, against the same step inside one process.

A step is `forward_backward` and `optim_step`, awaited. Both sides take turns, so a slow moment hits both. The
worker charges the ledger (two transactions) for every private step; the peer does not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np

from tests.workbench_server import WorkbenchServer
from tg_workbench.engine.trainer import (
    Architecture,
    LoraSpec,
    OptimizerSpec,
    PrivacySpec,
    Trainer,
    TrainerSpec,
)
from tg_workbench.sdk import TrainingClient, Workbench

MLP_STEPS, MLP_ROWS = 200, 64
LM_STEPS, LM_SHAPE = 6, (4, 64)
ADAPTERS = {"rank": 8, "alpha": 16.0, "dropout": 0.0, "target_modules": ("q_proj", "v_proj")}
Row = dict[str, Any]


def main() -> list[Row]:
    """Measure both models and return the rows."""
    server = WorkbenchServer(OMP_NUM_THREADS="1")
    try:
        with Workbench(socket=str(server.socket), api_key=server.api_key) as workbench:
            return [*small_network(workbench), *language_model(workbench)]
    finally:
        server.stop()


def small_network(workbench: Workbench) -> list[Row]:
    """An `mlp` of 30 inputs: what is added is what counts."""
    shape = Architecture((30,), 2, (64,))
    client = workbench.create_training_client(
        "mlp",
        architecture={"input_shape": [30], "output_size": 2, "hidden_sizes": [64]},
        noise_multiplier=1.0,
        batch_size=MLP_ROWS,
    )
    trainer = in_process("mlp", shape, None, MLP_ROWS)
    rng = np.random.default_rng(0)

    def batch() -> dict[str, Any]:
        features = rng.normal(size=(MLP_ROWS, 30)).astype(np.float32)
        return {"features": features, "targets": rng.integers(0, 2, MLP_ROWS)}

    ours, peer = in_turn(client, trainer, batch, MLP_STEPS)
    added = statistics.median(ours) - statistics.median(peer)
    case = f"mlp, {MLP_ROWS} rows: milliseconds added to a private step"
    return [{"case": case, "value": added * 1e3, "target": "at most 5 ms", "met": added <= 5e-3}]


def language_model(workbench: Workbench) -> list[Row]:
    """SmolLM2 with LoRA, 4 × 64 tokens: the step itself is what takes the time."""
    from tg_workbench.sdk import LoRA

    client = workbench.create_training_client(
        "smollm2-135m",
        lora=LoRA(**ADAPTERS),  # type: ignore[arg-type]
        noise_multiplier=1.0,
        batch_size=LM_SHAPE[0],
    )
    trainer = in_process("smollm2-135m", None, LoraSpec(**ADAPTERS), LM_SHAPE[0])  # type: ignore[arg-type]
    rng = np.random.default_rng(0)

    def batch() -> dict[str, Any]:
        return {"input_ids": rng.integers(1, 40_000, LM_SHAPE).tolist()}

    ours, peer = in_turn(client, trainer, batch, LM_STEPS)
    ratio = statistics.median(mine / other for mine, other in zip(ours, peer, strict=True))
    return [
        {
            "case": "smollm2-135m LoRA, 4 × 64 tokens, private",
            "ours": statistics.median(ours),
            "peer": statistics.median(peer),
            "peer_name": "in process (s)",
            "ratio": ratio,
            "target": "at most 1.10",
            "met": ratio <= 1.10,
        }
    ]


def in_process(
    model_ref: str, architecture: Architecture | None, lora: LoraSpec | None, rows: int
) -> Trainer:
    """The peer: the same trainer, with nothing in between."""
    import torch

    torch.set_num_threads(1)
    return Trainer(
        TrainerSpec(
            model_ref=model_ref,
            architecture=architecture,
            lora=lora,
            optimizer=OptimizerSpec(),
            loss=None,
            privacy=PrivacySpec(noise_multiplier=1.0, max_grad_norm=1.0),
            expected_batch_size=float(rows),
            cache_folder=Path(gettempdir()) / "tg-workbench-bench",
        )
    )


def in_turn(
    client: TrainingClient, trainer: Trainer, batch: Callable[[], dict[str, Any]], steps: int
) -> tuple[list[float], list[float]]:
    """Seconds per step, on both sides, after two steps that do not count."""
    ours, peer = [], []
    for number in range(steps + 2):
        rows = batch()
        began = time.perf_counter()
        client.forward_backward(**rows)
        client.optim_step().result()
        between = time.perf_counter()
        trainer.forward_backward(rows, refuse_repeats=True)
        trainer.optim_step()
        if number >= 2:
            ours.append(between - began)
            peer.append(time.perf_counter() - between)
    return ours, peer
