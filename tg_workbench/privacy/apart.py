"""Apart: one example's loss must depend on no other example, or no clipping bounds what that one adds.

Tried out on the first examples that come together. The loss of one must be the same whoever is beside it, its
gradient must not reach what the model made of the other, and every layer that learns must have the examples
along its first axis, however many they are. So a contrastive loss, a mean over the tokens of a batch and a
batch norm written by hand are found, whichever engine clips.

Pitfalls: it is a trial on a few examples, not a proof. What couples only larger batches, as experts that run
full do, is not seen by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tg_workbench.errors import InvalidRequest, UnsupportedLayer

TOLERANCE = 1e-4
"""By how much of itself a loss may differ in a batch of another size, where kernels add in another order."""
BF16_TOLERANCE = 5e-2
"""The same where some layers compute in bfloat16."""

Losses = Callable[[list[int]], Tensor]
"""Runs the model on the examples of these numbers, and returns one value for each."""


def require_apart(model: nn.Module, losses: Losses, count: int, tolerance: float = TOLERANCE) -> None:
    """Raise InvalidRequest or UnsupportedLayer if the losses of `count` examples depend on one another.

    Of them, at most three are looked at; with fewer than two there is nothing to see.
    """
    if count < 2:
        return
    was_training = model.training
    try:
        with torch.random.fork_rng(), torch.enable_grad():
            model.eval()  # without dropout, whose draws depend on who is beside whom
            _require_alike(losses, count, tolerance)
            model.train(was_training)
            _require_followed(model, losses)
            _require_unreached(model, losses)
    finally:
        model.train(was_training)


def _require_alike(losses: Losses, count: int, tolerance: float) -> None:
    """The first example's loss is the same by itself and beside each of the others."""
    with torch.no_grad():
        companies = [[0], *([0, other] for other in range(1, min(count, 3)))]
        values = [losses(company) for company in companies]
    if any(value.dim() != 1 for value in values):
        raise InvalidRequest("a loss must give one value per example to be clipped")
    told = torch.stack([value[0].double() for value in values])
    if not bool(told.isfinite().all()):
        return  # such an example counts zero, and tells nothing here
    if float(told.max() - told.min()) > tolerance * (1.0 + float(told.abs().max())):
        raise InvalidRequest(_coupled("its value changes with who is beside it"))


def _require_followed(model: nn.Module, losses: Losses) -> None:
    """Layers that learn make as many of a thing as there are examples; a table of positions does not."""
    with torch.no_grad():
        shapes = []
        for company in ([0], [0, 1]):
            with _watched(model) as outputs:
                losses(company)
            shapes.append({name: output.shape[:1] for name, output in outputs.items()})
    for name, module in model.named_modules():
        learns = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        if learns and name in shapes[0] and (shapes[0][name], shapes[1].get(name)) != ((1,), (2,)):
            raise UnsupportedLayer(name, f"{type(module).__name__}: its first axis is not the example")


def _require_unreached(model: nn.Module, losses: Losses) -> None:
    """The gradient of one loss is exactly zero where the model was at work on the other example."""
    with _watched(model) as outputs:
        values = losses([0, 1])
    made = {name: output for name, output in outputs.items() if output.requires_grad and len(output) == 2}
    if not made:
        return
    for number, value in enumerate(values):
        grads = torch.autograd.grad(value, list(made.values()), retain_graph=True, allow_unused=True)
        for name, grad in zip(made, grads, strict=True):
            # Zero times an infinite activation is no number, and no sign of coupling.
            if grad is not None and bool(grad[1 - number].nan_to_num(0.0, 0.0, 0.0).any()):
                raise InvalidRequest(_coupled(f"seen at layer {name!r}"))


def _coupled(how: str) -> str:
    return (
        f"the loss of one example depends on another one ({how}): a loss or a layer mixes the batch, and no "
        "example's part in a step could be bounded. Use a loss with one value for each example alone, and "
        "layers that take examples one by one"
    )


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What each layer made last, while this lasts."""
    outputs: dict[str, Tensor] = {}

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() > 0:
                outputs[name] = output

        return hook

    handles = [module.register_forward_hook(remember(name)) for name, module in model.named_modules()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
