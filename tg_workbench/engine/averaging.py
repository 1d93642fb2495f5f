"""TailAverage: the mean of what the parameters were after each of a run's last steps.

It is what others see of the model; training goes on from the last step. Noise that differs from step to step
cancels in a mean, which costs no privacy: every step in it was paid for (Polyak and Juditsky 1992).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tg_workbench.engine.states import MODEL
from tg_workbench.errors import CheckpointMismatch

_ITERATE = "iterate/"
_COUNT = "averaged_steps"


@dataclass(slots=True)
class Mean:
    """How many steps were averaged, and to what."""

    count: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)


class TailAverage:
    """The running mean over all steps after step `after`; None: no mean is taken."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], after: int | None) -> None:
        self._parameters = parameters
        self._after = after
        self._mean = Mean()

    def take(self, step: int) -> None:
        """Count the parameters in, as step `step` left them. An earlier step ends what was loaded."""
        if self._after is None or step <= self._after:
            self._mean = Mean()
            return
        mean = self._mean
        mean.count += 1
        for name, parameter in self._parameters.items():
            now = parameter.detach()
            if mean.count == 1:
                mean.tensors[name] = now.clone()
            else:
                mean.tensors[name].add_(now - mean.tensors[name], alpha=1 / mean.count)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While this lasts the parameters are the mean, if there is one; afterwards what they were."""
        if not self._mean.count:
            yield
            return
        kept = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._put(self._mean.tensors)
        try:
            yield
        finally:
            self._put(kept)

    def saved(
        self, tensors: dict[str, Tensor], metadata: dict[str, Any], *, whole: bool
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A state with the mean as the model and, if `whole`, what training goes on from beside it."""
        if not self._mean.count:
            return tensors, metadata
        found = dict(tensors)
        for name, mean in self._mean.tensors.items():
            if whole:
                found[_ITERATE + name] = tensors[MODEL + name]
            found[MODEL + name] = mean.to("cpu", copy=True)
        return found, {**metadata, _COUNT: self._mean.count} if whole else metadata

    def opened(
        self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], Mean]:
        """The state training goes on from, and its mean. CheckpointMismatch where the two do not fit.

        Without averaging of one's own, the mean that was saved is the model.
        """
        count = metadata.get(_COUNT, 0)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise CheckpointMismatch("the checkpoint does not say how many steps were averaged")
        if not count:
            return dict(tensors), Mean()
        others = {name: t for name, t in tensors.items() if not name.startswith((MODEL, _ITERATE))}
        iterates = _under(_ITERATE, tensors)
        means = _under(MODEL, tensors)
        if iterates.keys() != self._parameters.keys() or means.keys() != self._parameters.keys():
            raise CheckpointMismatch("the checkpoint holds another average than this model has parameters")
        for name, parameter in self._parameters.items():
            for tensor in (iterates[name], means[name]):
                if tensor.shape != parameter.shape or tensor.dtype != parameter.dtype:
                    raise CheckpointMismatch(f"{name} has another shape or type than in this model")
        chosen = means if self._after is None else iterates
        state = {**others, **{MODEL + name: tensor for name, tensor in chosen.items()}}
        copies = {name: tensor.to(self._parameters[name].device, copy=True) for name, tensor in means.items()}
        return state, Mean() if self._after is None else Mean(count, copies)

    def become(self, mean: Mean) -> None:
        """Go on from a mean that `opened` gave."""
        self._mean = mean

    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[name])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
