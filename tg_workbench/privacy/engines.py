"""The engines that clip per-example gradients, by name. Whichever clips, sampling, noise and ε are ours.

Light: torch, and Opacus where it is asked for, are imported when an engine is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tg_workbench.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from tg_workbench.privacy.clipping import ClippedSum

BOOK_KEEPING = "book-keeping"
"""Ours: one backward pass, and a rule for each kind of layer."""
ENGINES = (BOOK_KEEPING, "opacus-hooks", "opacus-ghost")
"""Every engine by its name, the one that is used unless another is asked for first."""


class ClippingEngine(Protocol):
    """Clips the gradients of one model."""

    def clip(
        self, losses: Callable[[], Tensor], max_grad_norm: float, unit_of: Tensor | None = None
    ) -> ClippedSum:
        """Σᵢ gᵢ · min(1, max_grad_norm / ‖gᵢ‖) over the examples whose losses `losses()` returns.

        With `unit_of` over their units; InvalidRequest where the engine cannot add those up.
        """
        ...

    def nothing(self, max_grad_norm: float) -> ClippedSum:
        """The clipped sum of an empty batch."""
        ...


def clipping_engine(name: str, model: nn.Module) -> ClippingEngine:
    """The engine of this name for a model.

    Raises InvalidRequest for another name or where Opacus is not installed, UnsupportedLayer for a model
    that has no per-example gradients.
    """
    if name not in ENGINES:
        raise InvalidRequest(f"unknown engine; use one of {', '.join(ENGINES)}")
    if name == BOOK_KEEPING:
        from tg_workbench.privacy.clipping import Clipper

        return Clipper(model)
    try:
        from tg_workbench.privacy.opacus_engines import OpacusGhost, OpacusHooks
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "opacus":
            raise
        raise InvalidRequest(
            f"engine {name} needs Opacus: run pip install 'tg-workbench[opacus]', or use {BOOK_KEEPING}"
        ) from missing
    return OpacusHooks(model) if name == "opacus-hooks" else OpacusGhost(model)
