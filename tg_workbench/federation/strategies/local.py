"""What a strategy changes in a device's own training: pure arithmetic on lists of tensors or arrays.

Everything works in place on torch tensors (under `torch.no_grad`) and on numpy arrays alike.

Pitfalls: `new_control` takes it that the device trained by plain SGD at one learning rate. With momentum,
Adam or a schedule the control variate is not the mean gradient, and SCAFFOLD's promise does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, TypeVar

from tg_workbench.federation.strategies.strategy import is_count, is_number, require

Array: TypeAlias = Any
"""A torch tensor or a numpy array."""
Kind = TypeVar("Kind", bound=Any)


def add_proximal(
    gradients: Sequence[Array], parameters: Sequence[Array], given: Sequence[Array], proximal: float
) -> None:
    """FedProx: add μ·(w − wᵗ), the gradient of (μ/2)·‖w − wᵗ‖², to each gradient (Li 2020, equation 2)."""
    for gradient, parameter, start in zip(gradients, parameters, given, strict=True):
        gradient += (parameter - start) * proximal


def add_control(gradients: Sequence[Array], server: Sequence[Array], own: Sequence[Array]) -> None:
    """SCAFFOLD: add c − cᵢ to each gradient (Karimireddy 2020, Algorithm 1, line 10)."""
    for gradient, all_devices, this_device in zip(gradients, server, own, strict=True):
        gradient += all_devices - this_device


def new_control(own: Kind, server: Kind, delta: Kind, steps: int, learning_rate: float) -> Kind:
    """SCAFFOLD: cᵢ⁺ = cᵢ − c + (x − yᵢ)/(K·η), option II of Algorithm 1, line 12; `delta` is yᵢ − x.

    What is handed in is the new one minus the old one; the new one is kept on the device.
    """
    require(is_count(steps, 1, 10**9), "steps", "a whole number above 0")
    require(is_number(learning_rate, 1e-12), "learning_rate", "a number above 0")
    new: Kind = own - server - delta / (steps * learning_rate)
    return new
