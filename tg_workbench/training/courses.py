"""The course of a job: which members of its dataset it learns from, which are held out, in how many steps.

Who is held out is settled by a coin of each member's number alone: never by what a row holds, by who else is
there, or by anything that was drawn. So the split reveals nothing, and every worker makes the same one.
Neighbouring datasets are numbered places then, one of them filled or empty: taking a row out moves no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tg_workbench.datasets import Dataset
from tg_workbench.engine.class_weights import balanced
from tg_workbench.errors import InvalidField
from tg_workbench.storage import Blobs
from tg_workbench.training.job_specs import JobSpec
from tg_workbench.training.rows import architecture_of, read_tensors
from tg_workbench.training.specs import ClientSpec

Numbers = NDArray[np.int64]
USUAL_LOSS_BOUND = 4.0
LARGEST_LOSS_BOUND = 8.0


@dataclass(frozen=True, slots=True)
class Course:
    """The numbers of the members to learn from and of those held out, and how many steps that takes."""

    learned: Numbers
    held_out: Numbers
    batch_size: int
    epochs: int

    @classmethod
    def of(cls, spec: JobSpec, members: int) -> Course:
        """The course of a job over a dataset of so many members."""
        is_held_out = _coins(members) < spec.validation_split
        if is_held_out.all():  # of very few members every coin may fall alike: then all are learned
            is_held_out[:] = False
        learned, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        return cls(learned, held_out, spec.batch_size, spec.epochs)

    @property
    def steps_per_epoch(self) -> int:
        """How many steps go once through as many members as are learned from."""
        return max(1, math.ceil(len(self.learned) / self.batch_size))

    @property
    def total_steps(self) -> int:
        """How many steps the whole course has."""
        return self.epochs * self.steps_per_epoch

    def pass_over(self, epoch: int, seed: int) -> Numbers:
        """The members to learn from in the order of one epoch: the same one whenever it is asked for."""
        return np.random.default_rng([seed, epoch]).permutation(self.learned)


def class_weights_of(spec: JobSpec, dataset: Dataset, blobs: Blobs) -> tuple[float, ...] | None:
    """The weights a job asked for; balanced ones are computed from all rows of a public dataset.

    Raises PrivacyRefused, InvalidRequest.
    """
    weights = spec.class_weights
    if weights is None or not isinstance(weights, str):
        return weights
    targets = read_tensors(blobs.read(dataset.blob))["targets"] if dataset.format == "safetensors" else None
    if targets is None or not np.issubdtype(targets.dtype, np.integer):
        raise InvalidField("class_weights", "The dataset has no classes")
    outputs = architecture_of(dataset, blobs).output_size
    counts = np.bincount(targets.ravel(), minlength=outputs).tolist()
    return balanced(counts, is_public=dataset.privacy == "public")


def noisy_loss_bound(spec: ClientSpec) -> float:
    """How much one example may count for in the noisy loss of a job that named no bound.

    Twice what guessing costs, as far as that is known from public numbers alone.
    """
    if spec.architecture is None or spec.architecture.output_size < 2 or spec.loss == "mse":
        return USUAL_LOSS_BOUND
    return min(LARGEST_LOSS_BOUND, 2.0 * math.log(spec.architecture.output_size))


def _coins(count: int) -> NDArray[np.float64]:
    """For each number from 0 on one from 0 to below 1, which belongs to it and looks like a draw.

    Source: the output function of SplitMix64 (Steele, Lea and Flood 2014).
    """
    z = (np.arange(1, count + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**53
