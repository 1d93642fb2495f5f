"""A private step against the same step without privacy, with Opacus beside it, in ratios of CPU time.

`ours` and `peer` are how many times the plain step each takes, `ratio` is ours to that peer.
Everything runs interleaved in one thread: each repeat takes one step of every kind in turn, and the median of
the ratios to the plain step of the same repeat counts. Ours is the whole of `Trainer`: checking the batch,
clipping, noise from a cryptographic generator, the optimizer.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from tg_workbench.engine import lora
from tg_workbench.engine.networks import LanguageModel, RowModel
from tg_workbench.engine.trainer import (
    Architecture,
    LoraSpec,
    OptimizerSpec,
    PrivacySpec,
    Trainer,
    TrainerSpec,
)

Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One model and one batch, and how often to try."""

    name: str
    module: Callable[[], nn.Module]
    batch: dict[str, Any]
    repeats: int
    target: float
    """How many times the plain step ours may take."""
    output_size: int = 10

    @property
    def tokens(self) -> bool:
        return "input_ids" in self.batch


def main(*, repeats: int | None = None) -> list[dict[str, Any]]:
    """Measure every case and return its rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [row for case in cases() for row in _measure(case, repeats or case.repeats)]
    finally:
        torch.set_num_threads(threads)


def cases() -> list[Case]:
    """Rows, images and tokens, each at a size that people use on a laptop."""
    draw = np.random.default_rng(0)
    rows = {"features": _normal(draw, 256, 64), "targets": draw.integers(0, 10, 256)}
    images = {"features": _normal(draw, 256, 1, 28, 28), "targets": draw.integers(0, 10, 256)}
    tokens = {"input_ids": draw.integers(0, 512, (16, 128))}
    return [
        Case("mlp 64-256-128-10, 256 rows", _mlp, rows, 60, 1.35),
        Case("cnn 28×28, 256 images", _cnn, images, 15, 1.45),
        Case("llama 4×256 LoRA, 16×128 tokens", _adapted_llama, tokens, 5, 1.05, 512),
        Case("llama 4×256 full, 16×128 tokens", _llama, tokens, 5, 1.20, 512),
    ]


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, 10))


def _cnn() -> nn.Module:
    """The network of the MNIST examples of Opacus and TF Privacy."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def _llama() -> nn.Module:
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def _adapted_llama() -> nn.Module:
    model = _llama()
    lora.attach(model, LoraSpec(rank=8, target_modules=("q_proj", "v_proj"), dropout=0.0))
    return model


# ---------------------------------------------------------------------------------------- measure
def steps_of(case: Case) -> dict[str, Callable[[], Step]]:
    """How to make the step of each kind: without privacy, ours, and Opacus in its two modes."""
    return {
        "plain": partial(_plain, case),
        "ours": partial(_ours, case),
        "hooks": partial(_hooks, case),
        "ghost": partial(_ghost, case),
    }


def _measure(case: Case, repeats: int) -> list[dict[str, Any]]:
    steps = {name: make() for name, make in steps_of(case).items()}
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # as Opacus wants it to
        for step in steps.values():
            step()
            step()
        for _ in range(repeats):
            took = {name: _cpu_seconds(step) for name, step in steps.items()}
            for name, seconds in took.items():
                ratios[name].append(seconds / took["plain"])
    medians = {name: statistics.median(values) for name, values in ratios.items()}
    best = min(medians["hooks"], medians["ghost"])
    return [
        {
            "case": case.name,
            "ours": round(medians["ours"], 3),
            "peer": round(medians[name], 3),
            "peer_name": f"opacus {name}",
            "ratio": round(medians["ours"] / medians[name], 3),
            "target": f"ours at most {case.target:.2f}, and below both",
            "met": medians["ours"] <= case.target and medians["ours"] < best,
        }
        for name in ("hooks", "ghost")
    ]


def _cpu_seconds(step: Step) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _plain(case: Case) -> Step:
    model, inputs, targets = case.module(), *_tensors(case)
    optimizer = _adam(model)

    def step() -> None:
        optimizer.zero_grad()
        _mean_loss(_said(model, case, inputs), targets).backward()
        optimizer.step()

    return step


def _ours(case: Case) -> Step:
    """A Trainer whose network is this case's: only the way it is built differs from a trainer in use."""
    size = len(next(iter(case.batch.values())))
    trainer = Trainer(
        TrainerSpec(
            model_ref="mlp",
            architecture=Architecture((64,), 10),
            lora=None,
            optimizer=OptimizerSpec("adam", learning_rate=1e-4),
            loss="cross_entropy",
            privacy=PrivacySpec(noise_multiplier=1.0, max_grad_norm=1.0),
            expected_batch_size=size,
            cache_folder=Path(gettempdir()),
        ),
        network=_network(case),
        device=torch.device("cpu"),  # as the peers
    )

    def step() -> None:
        trainer.forward_backward(case.batch)
        trainer.optim_step()

    return step


def _hooks(case: Case) -> Step:
    (inputs, targets), size = _tensors(case), len(next(iter(case.batch.values())))
    model = GradSampleModule(case.module())
    optimizer = DPOptimizer(_adam(model), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=size)

    def step() -> None:
        optimizer.zero_grad()
        _mean_loss(_said(model, case, inputs), targets).backward()
        optimizer.step()

    return step


def _ghost(case: Case) -> Step:
    (inputs, targets), size = _tensors(case), len(next(iter(case.batch.values())))
    model = GradSampleModuleFastGradientClipping(case.module(), max_grad_norm=1.0, use_ghost_clipping=True)
    optimizer = DPOptimizerFastGradientClipping(
        _adam(model), noise_multiplier=1.0, max_grad_norm=1.0, expected_batch_size=size
    )
    criterion = DPLossFastGradientClipping(model, optimizer, nn.CrossEntropyLoss())

    def step() -> None:
        said = _said(model, case, inputs)
        if case.tokens:
            loss = criterion(said.flatten(0, 1), targets.flatten(), shape=said.shape)
        else:
            loss = criterion(said, targets)
        loss.backward()
        optimizer.step()

    return step


# ------------------------------------------------------------------------------------------ parts
def _network(case: Case) -> RowModel | LanguageModel:
    if case.tokens:
        from tg_workbench.engine.language_models import ByteTokenizer

        return LanguageModel(case.module(), ByteTokenizer(), case.output_size, 128)
    return RowModel(case.module(), tuple(case.batch["features"].shape[1:]), case.output_size)


def _adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)


def _tensors(case: Case) -> tuple[Tensor, Tensor]:
    if case.tokens:
        ids = torch.from_numpy(case.batch["input_ids"])
        return ids, torch.cat((ids[:, 1:], torch.full((len(ids), 1), -100)), dim=1)
    return torch.from_numpy(case.batch["features"]), torch.from_numpy(case.batch["targets"])


def _said(model: nn.Module, case: Case, inputs: Tensor) -> Tensor:
    said: Tensor = model(input_ids=inputs, use_cache=False).logits if case.tokens else model(inputs)
    return said


def _mean_loss(said: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(said.flatten(0, -2), targets.flatten())


def _normal(draw: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return draw.standard_normal(shape, dtype=np.float32)
