"""Apart: one example's loss must depend on no other example, or no clipping bounds what that one adds.

Tried out on a few examples: the gradient of one loss is followed back to what the model made of the others,
where it has to be exactly zero. A contrastive loss, a mean over the tokens of a batch, a batch norm written
by hand, experts that share a capacity: all couple examples, and are found, whichever engine clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tg_workbench.errors import InvalidRequest


def require_apart(model: nn.Module, losses: Callable[[], Tensor]) -> None:
    """Raise InvalidRequest if the losses of these few examples (two at least) depend on one another.

    `losses` runs the model on them and returns one value for each.
    """
    with torch.random.fork_rng(devices=[]), _watched(model) as outputs, torch.enable_grad():
        values = losses()
        if values.dim() != 1:
            raise InvalidRequest("a loss must give one value per example to be clipped")
        made = {name: output for name, output in outputs.items() if output.shape[:1] == values.shape}
        if not made:
            return
        for number, value in enumerate(values):
            grads = torch.autograd.grad(value, list(made.values()), retain_graph=True, allow_unused=True)
            for name, grad in zip(made, grads, strict=True):
                if grad is not None and _reaches_others(grad, number):
                    raise InvalidRequest(
                        f"the loss of one example depends on another one, seen at layer {name!r}: a loss or "
                        "a layer mixes the batch, and no example's part in a step could be bounded. Use a "
                        "loss with one value for each example alone, and layers that take examples one by one"
                    )


def _reaches_others(grad: Tensor, number: int) -> bool:
    others = torch.ones(len(grad), dtype=torch.bool, device=grad.device)
    others[number] = False
    # Zero times an infinite activation is no number, and no sign of coupling.
    return bool(grad[others].nan_to_num(0.0, 0.0, 0.0).any())


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What each layer made last, as far as gradients pass through it."""
    outputs: dict[str, Tensor] = {}

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad and output.dim() > 0:
                outputs[name] = output

        return hook

    handles = [module.register_forward_hook(remember(name)) for name, module in model.named_modules()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
