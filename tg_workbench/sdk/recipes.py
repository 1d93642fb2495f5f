"""Recipes: all that a training client needs to learn images well and privately, with nothing tuned by hand.

    recipe = recipes.image_features(rows, classes=10, target_epsilon=3)
    client = wb.create_training_client(dataset=rows, **recipe)
    run = client.train(steps=recipe.max_steps)

A recipe is made of public numbers only: how many images there are, their size, how many classes, ε. It asks
nobody and looks at no image, so following one costs no privacy but the run's own.

**Why these numbers.** Nearly every gradient is clipped, so all that is left to choose is how far one image
may pull: the stride. Noise moves an answer by about stride · ‖features‖ / (N · ε^0.8). The stride keeps that
even; N counts a little more (N^1.2), for more images are worth telling apart more finely. Fitted on a tenth
held out of scikit-learn's digits, of 5,000 digits of MNIST and of the training rows of Fashion-MNIST, not on
its test rows: on the first two, at ε = 0.5, 1, 3 and 8, no stride from a quarter to four times as
long made the features better by more than 0.6 points.

Pitfalls: fitting these numbers to a dataset of your own by trying them out is a search, and each try is
charged. Pixels must lie from 0 to 1, or be bytes, which are read so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tg_workbench.errors import InvalidRequest
from tg_workbench.sdk.datasets import Dataset
from tg_workbench.sdk.plans import DEFAULT_TARGET_EPSILON, Architecture, Optimizer, Privacy

SMALLEST_SIDE = 8
MOST_CHANNELS = 4
"""Of an image; more at the front of its shape, and few at the end, are channels in the wrong place."""
PATHS = 81
"""Features of each channel and each 4×4 pixels (`engine/scattering.py`; a test compares them)."""
_RATE = 1 / 8
"""q: which part of the images a step draws."""
_LARGEST_BATCH = 1_000_000
_STEPS = 320
"""40 passes: as many for few images as for many, so σ depends on ε and δ alone."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Arguments of `create_training_client`: `**recipe` hands them over, by these names."""

    model_ref: str
    architecture: Architecture
    optimizer: Optimizer
    batch_size: int
    max_steps: int
    privacy: Privacy

    def keys(self) -> Iterator[str]:
        """The names of its parts, for `**recipe`."""
        return (field.name for field in fields(self))

    def __getitem__(self, name: str) -> Any:
        """One part by its name. Raises KeyError."""
        if name not in set(self.keys()):
            raise KeyError(name)
        return getattr(self, name)

    def __str__(self) -> str:
        """What it comes to, in one line."""
        return (
            f"{self.model_ref}: {self.max_steps} steps of about {self.batch_size} images, each held to a "
            f"gradient of {self.privacy.max_grad_norm:.3g}, for ε = {self.privacy.target_epsilon:g}"
        )


def image_features(
    dataset: Dataset | None = None,
    *,
    classes: int,
    target_epsilon: float = DEFAULT_TARGET_EPSILON,
    size: int | None = None,
    image_shape: Sequence[int] | None = None,
) -> Recipe:
    """Fixed wavelet features and one linear layer that learns: for small ε nothing we know does better.

    After Tramèr and Boneh (2021). Size and shape are the dataset's, or given: `image_shape` is channels ×
    height × width, and says how a dataset of flat rows is to be read. `classes` are told, not counted: which
    ones occur is the rows' secret. Raises InvalidRequest.
    """
    count, shape = _public(dataset, size, image_shape)
    width = math.sqrt(PATHS * shape[0] * math.prod(math.ceil(side / 4) for side in shape[1:]))
    stride = min(0.04 * width, 0.6e-4 * math.pow(count, 1.2) * _signal(target_epsilon) / width)
    return _recipe("scattering", Architecture(shape, classes), count, target_epsilon, stride)


def image_network(
    dataset: Dataset | None = None,
    *,
    classes: int,
    target_epsilon: float = DEFAULT_TARGET_EPSILON,
    size: int | None = None,
    image_shape: Sequence[int] | None = None,
) -> Recipe:
    """A small convolutional network with tanh, which learns its own features from end to end.

    After Papernot et al. (2021). Arguments as of `image_features`. Raises InvalidRequest.
    """
    count, shape = _public(dataset, size, image_shape)
    stride = min(1.5, 2.2e-5 * count * _signal(target_epsilon))
    return _recipe("tempered-cnn", Architecture(shape, classes), count, target_epsilon, stride)


def _signal(target_epsilon: float) -> float:
    """How ε counts: σ of such a run falls about as ε^-0.8, for ε from 0.5 to 8. Raises InvalidRequest."""
    if not 0.0 < target_epsilon < math.inf:
        raise InvalidRequest("target_epsilon must be a finite number above 0")
    return math.pow(target_epsilon, 0.8)


def _recipe(
    model_ref: str,
    architecture: Architecture,
    count: int,
    target_epsilon: float,
    stride: float,
) -> Recipe:
    """SGD in which each image pulls by `stride`: nearly all are clipped to it, so it is the learning rate."""
    if architecture.output_size < 2:
        raise InvalidRequest("classes must be at least 2")
    return Recipe(
        model_ref=model_ref,
        architecture=architecture,
        optimizer=Optimizer("sgd", 1.0, weight_decay=0.0, momentum=0.9, tail_averaging=0.5),
        batch_size=min(_LARGEST_BATCH, math.ceil(count * _RATE)),
        max_steps=_STEPS,
        privacy=Privacy(target_epsilon=target_epsilon, max_grad_norm=stride),
    )


def _public(
    dataset: Dataset | None, size: int | None, image_shape: Sequence[int] | None
) -> tuple[int, tuple[int, ...]]:
    """How many images, and channels × height × width of one. Raises InvalidRequest."""
    if dataset is not None and size is None:
        size = dataset.size
    if dataset is not None and image_shape is None and dataset.tensors and "features" in dataset.tensors:
        image_shape = dataset.tensors["features"]["shape"][1:]
    if size is None or image_shape is None:
        raise InvalidRequest("give a dataset of images, or its size and image_shape")
    shape = (1, *image_shape) if len(image_shape) == 2 else tuple(image_shape)
    if size < 1 or len(shape) != 3 or min(shape[1:]) < SMALLEST_SIDE or not 1 <= shape[0] <= MOST_CHANNELS:
        raise InvalidRequest(
            f"images have a shape of height × width, at least {SMALLEST_SIDE} each, or of 1 to "
            f"{MOST_CHANNELS} channels × height × width; image_shape says how flat rows are to be read"
        )
    return size, shape
