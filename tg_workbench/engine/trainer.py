"""Trainer: one model and the six things a training client can do to it.

forward_backward, optim_step, sample, evaluate, state out, state in. With a `PrivacySpec` every gradient it
holds is a sum of clipped per-example gradients, noise is drawn once per `optim_step`, and the sum is divided
by `expected_batch_size`, a public number, never by how many examples came.

Pitfalls: losses and norms that `forward_backward` returns are not private. An example sent twice before one
`optim_step` counts twice; `refuse_repeats` refuses it. The trainer does not count ε: charge before
`optim_step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tg_workbench.engine import architectures, generation, lora, states
from tg_workbench.engine.answers import RightAnswers, classes_of, last_of, predictions
from tg_workbench.engine.averaging import TailAverage
from tg_workbench.engine.generation import Completion
from tg_workbench.engine.gradients import Gradients
from tg_workbench.engine.identities import identified
from tg_workbench.engine.losses import LOSSES
from tg_workbench.engine.measures import Measures, Tally, measured, tally_for
from tg_workbench.engine.networks import LanguageModel, Network, RowModel, TextClassifier, adapted, device_of
from tg_workbench.engine.objectives import Objective
from tg_workbench.engine.optimizers import make_optimizer
from tg_workbench.engine.outcomes import Evaluation, ForwardBackward, OptimStep
from tg_workbench.engine.reader import Reader, ShouldStop
from tg_workbench.engine.specs import (
    BOOK_KEEPING,
    Architecture,
    LoraSpec,
    OptimizerSpec,
    PrivacySpec,
    TrainerSpec,
)
from tg_workbench.errors import InvalidRequest, NoGradient, NotALanguageModel

T = TypeVar("T", bound=Tally)

__all__ = [
    "Architecture",
    "Completion",
    "Evaluation",
    "ForwardBackward",
    "LoraSpec",
    "OptimStep",
    "OptimizerSpec",
    "PrivacySpec",
    "Trainer",
    "TrainerSpec",
]


class Trainer:
    """One model, its optimizer and the gradient accumulated since the last step."""

    def __init__(
        self, spec: TrainerSpec, *, network: Network | None = None, device: torch.device | None = None
    ) -> None:
        """A trainer of the network that `spec` names, or of one of your own.

        It computes on `device`; when none is named, on the GPU that CUDA finds, else on the CPU.
        """
        if spec.loss is not None and spec.loss not in LOSSES:
            raise InvalidRequest(f"unknown loss; use one of {', '.join(LOSSES)}")
        self.spec = spec
        self.step = 0
        self._network = network or architectures.build(
            spec.model_ref, spec.architecture, spec.cache_folder, seed=spec.seed
        )
        self._reader = Reader(self._network, spec.loss)
        self._objective = Objective(self._network, spec.precision, spec.class_weights)
        if spec.lora is not None:
            with architectures.drawn_from(spec.seed):
                lora.attach(adapted(self._network), spec.lora)
        if spec.gradient_checkpointing:
            self._checkpoint_blocks()
        self._module.to(device or torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self._trainable = {name: p for name, p in self._module.named_parameters() if p.requires_grad}
        self._optimizer = make_optimizer(self._trainable.values(), spec.optimizer)
        self._average = TailAverage(self._trainable, spec.average_after)
        self._gradients = Gradients(spec, self._module, self._reader, self._objective)
        self._loss_name = spec.loss or self._network.loss

    @property
    def is_language_model(self) -> bool:
        """Whether the model reads and writes text."""
        return isinstance(self._network, LanguageModel)

    @property
    def loss_name(self) -> str | None:
        """The loss it has learned by; None before its first batch, where nothing was asked for."""
        return self._loss_name

    @property
    def reads_text(self) -> bool:
        """Whether the model reads text; what it answers may be classes."""
        return not isinstance(self._network, RowModel)

    @property
    def network(self) -> Network:
        """What learns, with what is public about it: its shape, or its vocabulary."""
        return self._network

    @property
    def device(self) -> torch.device:
        """Where the model and the gradient that waits are."""
        return device_of(self._module)

    @property
    def pending(self) -> bool:
        """Whether a gradient waits for `optim_step`."""
        return self._gradients.pending

    @property
    def _module(self) -> nn.Module:
        return self._network.module

    def _checkpoint_blocks(self) -> None:
        if isinstance(self._network, RowModel):
            raise InvalidRequest("gradient_checkpointing is for language models; leave it out")
        if self.spec.privacy is not None and self.spec.privacy.engine != BOOK_KEEPING:
            raise InvalidRequest(
                f"engine {self.spec.privacy.engine} cannot clip under gradient_checkpointing; "
                f"use engine {BOOK_KEEPING}, or leave gradient_checkpointing out"
            )
        self._network.checkpoint_blocks()

    def _dropout(self, *, on: bool) -> None:
        """Learn with dropout, look without."""
        if self._module.training != on:
            self._module.train(on)

    def _drawing(self) -> AbstractContextManager[None]:
        """While a batch is learned from: what drops out is drawn for the seed, the step and the batch in it.

        So who goes on from a state drops what would have been dropped. Networks of rows drop nothing.
        """
        if isinstance(self._network, RowModel):
            return nullcontext()
        mixed = np.random.SeedSequence((self.spec.seed, self.step, self._gradients.batches))
        return architectures.drawn_from(int(mixed.generate_state(1, np.uint64)[0]))

    @contextmanager
    def looking(self) -> Iterator[Network]:
        """The network as others see it, while this lasts: without dropout, averaged where a mean is taken."""
        self._dropout(on=False)
        with self._average.shown():
            yield self._network

    # ------------------------------------------------------------------------------- learning
    def forward_backward(
        self,
        batch: Mapping[str, Any],
        *,
        micro_batch_size: int | None = None,
        allow_empty: bool = False,
        refuse_repeats: bool = False,
        admit: Callable[[frozenset[bytes]], None] | None = None,
        canaries: int = 0,
        check_gradient: bool = True,
    ) -> ForwardBackward:
        """Add the gradient of a batch to what waits for `optim_step`. All of the batch, or nothing.

        `allow_empty` is for Poisson batches, which may hold nobody and are still noised. `refuse_repeats`
        refuses who already came since the last step, and would count twice under one clip: a row, or where
        ids are sent along a record or a unit. `admit` is told whom the step would be about, before anything
        is learned, and may refuse. The last `canaries` examples are learned from like any, and left out of
        what is told. Without `check_gradient` a plain gradient is not read through: its norm is NaN, and
        whoever keeps or shows the weights asks `require_finite` before.
        """
        read, loss_name = self._reader.read(batch, allow_empty=allow_empty)
        unit = self.spec.privacy.unit if self.spec.privacy is not None else None
        read, keys = identified(read, batch, unit)
        told = self._gradients.repeats.check(*keys()) if refuse_repeats else frozenset()
        if admit is not None:
            admit(self._gradients.repeats.seen | told)
        self._dropout(on=True)
        with self._drawing():
            outcome = self._gradients.add(
                read, loss_name, micro_batch_size, canaries=canaries, check=check_gradient
            )
        self._loss_name = loss_name
        self._gradients.repeats.add(told)
        return outcome

    @property
    def participants(self) -> frozenset[bytes]:
        """Whom the gradient that waits is about, by key; only of batches taken with `refuse_repeats`."""
        return self._gradients.repeats.seen

    def require_finite(self) -> None:
        """Raise InvalidBatch where a gradient that nobody checked has left weights that are not finite.

        Looked up in the weights: no optimizer brings a number back that has become infinite or none.
        """
        self._gradients.require_finite()

    def discard(self) -> None:
        """Forget the gradient that waits."""
        self._gradients.discard()

    def optim_step(self, *, learning_rate: float | None = None) -> OptimStep:
        """Noise the accumulated sum (with privacy), divide it by the expected batch size, and step once.

        `learning_rate` holds for this step alone.
        """
        if not self.pending:
            raise NoGradient
        if learning_rate is not None and not 0.0 <= learning_rate < math.inf:
            raise InvalidRequest("learning_rate must be a finite number, zero or above")
        summed, loss = self._gradients.released()
        for name, parameter in self._trainable.items():
            parameter.grad = summed[name]
        used = self.spec.optimizer.learning_rate if learning_rate is None else learning_rate
        for group in self._optimizer.param_groups:
            group["lr"] = used
        self._optimizer.step()
        for parameter in self._trainable.values():
            parameter.grad = None
        self.discard()
        self.step += 1
        self._average.take(self.step)
        return OptimStep(self.step, used, noise_applied=self.spec.privacy is not None, noisy_loss=loss)

    # -------------------------------------------------------------------------------- looking
    def sample(
        self,
        prompts: list[str],
        *,
        max_tokens: int = 128,
        temperature: float = 0.7,
        top_p: float = 0.9,
        top_k: int = 50,
        stop_sequences: list[str] | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[Completion]:
        """Write on from each prompt. Free of privacy cost: the model alone is read.

        Raises NotALanguageModel, InvalidRequest, and Interrupted once `should_stop` says so.
        """
        if not isinstance(self._network, LanguageModel):
            raise NotALanguageModel(self.spec.model_ref)
        taste = generation.Taste(max_tokens, temperature, top_p, top_k, tuple(stop_sequences or ()))
        with self.looking():
            return [generation.write_on(self._network, prompt, taste, should_stop) for prompt in prompts]

    def evaluate(
        self,
        batch: Mapping[str, Any],
        *,
        micro_batch_size: int | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Evaluation:
        """Loss and accuracy on a batch. Nothing changes, and nothing about the batch is protected.

        Raises InvalidBatch, and Interrupted once `should_stop` says so.
        """
        losses, counted = self._tallied(batch, micro_batch_size, should_stop, RightAnswers)
        return Evaluation(_mean(losses.numpy()), counted.accuracy, len(losses))

    def measure(self, batch: Mapping[str, Any], should_stop: ShouldStop | None = None) -> Measures:
        """Loss and the measures of the task on a batch. Nothing changes, and nothing of it is protected.

        Raises InvalidBatch, and Interrupted once `should_stop` says so.
        """
        tally_of = partial(tally_for, is_text=self.is_language_model)
        return measured(*self._tallied(batch, None, should_stop, tally_of))

    def _tallied(
        self,
        batch: Mapping[str, Any],
        size: int | None,
        should_stop: ShouldStop | None,
        tally_of: Callable[[str], T],
    ) -> tuple[Tensor, T]:
        """The losses, on the CPU, and a tally of what was said, as its loss asks for one."""
        read, loss_name = self._reader.read(batch)
        losses, tally = [], tally_of(loss_name)
        with self.looking(), torch.inference_mode():
            for part in self._reader.parts(read, size, should_stop):
                said = self._objective.answer(part)
                targets = self._objective.targets(part, said.device)
                losses.append(self._objective.weighed(said, targets, loss_name).cpu())
                tally.add(said, targets)
        return torch.cat(losses), tally

    def each_loss(
        self, batch: Mapping[str, Any], *, should_stop: ShouldStop | None = None
    ) -> NDArray[np.float64]:
        """The loss of each example, without dropout. As raw as the examples; Interrupted as `evaluate`."""
        losses, _ = self._tallied(batch, None, should_stop, RightAnswers)
        found: NDArray[np.float64] = losses.double().numpy()
        return found

    def predict(
        self, batch: Mapping[str, Any], *, should_stop: ShouldStop | None = None
    ) -> list[dict[str, Any]]:
        """For each example {class, confidence} (of a language model: the next token), or {value}.

        Raises InvalidBatch, and Interrupted once `should_stop` says so.
        """
        with self.looking(), torch.inference_mode():
            parts = self._reader.parts(self._reader.read_inputs(batch), None, should_stop)
            said = torch.cat([last_of(self._objective.answer(part), part.inputs).cpu() for part in parts])
        if isinstance(self._network, LanguageModel):
            return classes_of(said)
        return predictions(said, self._loss_name, self._network.output_size)

    def check(self, batch: Mapping[str, Any]) -> None:
        """Raise InvalidBatch unless this model can learn from every example of `batch`."""
        self._reader.read(batch)

    def prepare(self, batch: Mapping[str, Any], *, should_stop: ShouldStop | None = None) -> dict[str, Any]:
        """The batch as the front, or the frozen trunk, of the network makes it, to do so once.

        Without either: the batch as it is. Raises InvalidBatch, and Interrupted once `should_stop` says so.
        """
        return self._reader.prepared(batch, should_stop)

    def tokenize(self, texts: list[str], *, max_length: int) -> dict[str, Any]:
        """Texts as padded arrays: input_ids, attention_mask, and labels that leave the padding out.

        What tells texts apart learns from no labels, and gets none.
        """
        if isinstance(self._network, RowModel):
            raise NotALanguageModel(self.spec.model_ref)
        columns = generation.tokenize(self._network, texts, max_length)
        if isinstance(self._network, TextClassifier):
            del columns["labels"]
        return columns

    # ---------------------------------------------------------------------------------- state
    def state(self, include_optimizer: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What was learned, as named tensors and JSON: only what learns, never a random state.

        A gradient that waits is not part of it: save at step borders.
        """
        optimizer = self._optimizer if include_optimizer else None
        tensors, metadata = states.collect(self._trainable, optimizer, self._identity(), self.step)
        return self._average.saved(tensors, metadata, whole=include_optimizer)

    def check_state(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Raise what `load_state` would, and change nothing."""
        latest, _ = self._average.opened(tensors, metadata)
        states.check(latest, metadata, self._trainable, self._optimizer, self._identity())

    def load_state(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        """Become what `state` described. Checked whole first; on CheckpointMismatch nothing has changed."""
        latest, mean = self._average.opened(tensors, metadata)
        plan = states.check(latest, metadata, self._trainable, self._optimizer, self._identity())
        states.apply(plan, self._trainable, self._optimizer)
        self._average.become(mean)
        self.step = plan.step
        self._gradients.begin_anew()

    def _identity(self) -> dict[str, Any]:
        return states.identity(
            self.spec.model_ref, self.spec.architecture, self.spec.lora, self.spec.optimizer.name
        )


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else 0.0
