"""Per-example gradients, held to max_grad_norm in one backward pass.

While a loss is computed, every layer with trainable parameters is tapped: its input is remembered, and on the
way back the gradient of its output is turned into that layer's share of each example's gradient, or into two
factors of it, whichever is smaller (book-keeping; Bu et al. 2023). The norm of an example is taken over
all its shares added up, so tied parameters and layers used twice are right. No gradient is formed for a
batch as a whole.

Under gradient checkpointing (non-reentrant) inputs are remembered the way autograd remembers its own: they
are dropped with the rest of the forward pass and come back when it is run again. Only the first run counts.

Pitfalls: a loss that mixes examples, or a layer that does, has no per-example gradient; BatchNorm and
mixtures of experts are refused. An example whose loss or gradient is not finite contributes zero, because
failing would tell that it was there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tg_workbench.errors import InvalidRequest, UnsupportedLayer
from tg_workbench.privacy.shares import Factors, Share, has_rule, norm, share_of
from tg_workbench.privacy.units import Units

_SLACK = 1.0 - 1e-6
"""Sums are float32: clipping to slightly less than the bound keeps their rounding on the safe side."""
_MADE_BY_CLIP = object()
_ROUTES = re.compile(r"Moe|MoE|Experts|TopKRouter")
"""Names that transformers gives to modules which spread tokens over experts."""


@dataclass(frozen=True, slots=True)
class ClippedSum:
    """The sum of gradients of which no unit's part is longer than `bound`. Only `clip` makes one.

    A unit is an example, unless `clip` was told which examples belong together.
    """

    tensors: Mapping[str, Tensor]
    bound: float
    count: int
    """How many examples."""
    norms: Tensor
    """Each unit's norm before clipping, on the CPU; not private."""
    losses: Tensor
    """Each example's loss, on the CPU; not private."""
    made_by: object = field(repr=False)
    unit_of: Tensor | None = None
    """The number of each example's unit, from 0 on; None: every example is one."""

    def __post_init__(self) -> None:
        if self.made_by is not _MADE_BY_CLIP:
            raise TypeError("only clip() makes a ClippedSum: its bound must be true")

    @property
    def num_clipped(self) -> int:
        """How many units were made shorter."""
        return int((self.norms > self.bound).sum())

    def __add__(self, other: ClippedSum) -> ClippedSum:
        """The sum over both sets of units, which must be different ones."""
        if (self.unit_of is None) != (other.unit_of is None) and self.count and other.count:
            raise InvalidRequest("a sum over examples and one over units cannot be added")
        if self.bound != other.bound or self.tensors.keys() != other.tensors.keys():
            raise InvalidRequest("only sums of the same parameters under the same bound can be added")
        return ClippedSum(
            tensors={name: tensor + other.tensors[name] for name, tensor in self.tensors.items()},
            bound=self.bound,
            count=self.count + other.count,
            norms=torch.cat((self.norms, other.norms)),
            losses=torch.cat((self.losses, other.losses)),
            made_by=_MADE_BY_CLIP,
            unit_of=self._joined(other),
        )

    def _joined(self, other: ClippedSum) -> Tensor | None:
        if self.unit_of is None or other.unit_of is None:
            return self.unit_of if other.unit_of is None else other.unit_of
        return torch.cat((self.unit_of, other.unit_of + len(self.norms)))

    def losses_of_units(self, bound: float) -> Tensor:
        """What each unit's losses add up to, float64, held to 0 … `bound`. A loss that is no number is 0."""
        losses = self.losses.double().nan_to_num(nan=0.0, posinf=bound, neginf=0.0).clamp(0.0, bound)
        if self.unit_of is None:
            return losses
        return losses.new_zeros(len(self.norms)).index_add_(0, self.unit_of, losses).clamp_(max=bound)


class Clipper:
    """Clips the gradients of one model, whose layers and trainable parameters stay what they are now."""

    def __init__(self, model: nn.Module) -> None:
        for name, module in model.named_modules():
            kind = type(module).__name__
            # Batch norm mixes examples, frozen or not. Experts get the tokens of all examples in one heap,
            # which now and then is as long as the batch and then looks like one.
            if isinstance(module, nn.modules.batchnorm._BatchNorm) or _ROUTES.search(kind):
                raise UnsupportedLayer(name, kind)
        self._names = {p: name for name, p in model.named_parameters() if p.requires_grad}
        self._layers = [
            _Layer(name, module, own, exact=has_rule(module))
            for name, module in model.named_modules()
            if (own := [p for p in module.parameters(recurse=False) if p.requires_grad])
        ]

    def clip(
        self, losses: Callable[[], Tensor], max_grad_norm: float, unit_of: Tensor | None = None
    ) -> ClippedSum:
        """Σᵢ gᵢ · min(1, max_grad_norm / ‖gᵢ‖), gᵢ being the gradient of the i-th value of `losses()`.

        `losses` runs the model on one batch and returns one value per example, in the order of the
        batch's first axis. With `unit_of` (the number of each example's unit, from 0 on) gᵢ is the sum over
        the examples of the i-th unit.
        """
        bound = _checked(max_grad_norm)
        with _tapped(self._layers) as taps, torch.enable_grad():
            values = losses()
            if values.dim() != 1:
                raise InvalidRequest("a loss must give one value per example to be clipped")
            taps.units = None if unit_of is None else Units(unit_of.to(values.device))
            taps.close(examples=len(values))
            _require_every_use_tapped(self._names, values, taps)
            known = _finite(values.detach())
            torch.autograd.grad(values, (taps.anchor,), known.to(values.dtype), allow_unused=True)
        with torch.no_grad():
            return _assemble(self._names, taps, values.detach(), known, bound)

    def nothing(self, max_grad_norm: float) -> ClippedSum:
        """The clipped sum of an empty batch: zero, and as good as any other to add noise to."""
        return ClippedSum(
            tensors={name: torch.zeros_like(parameter) for parameter, name in self._names.items()},
            bound=_checked(max_grad_norm),
            count=0,
            norms=torch.zeros(0, dtype=torch.float64),
            losses=torch.zeros(0),
            made_by=_MADE_BY_CLIP,
        )


def clip(model: nn.Module, losses: Callable[[], Tensor], max_grad_norm: float) -> ClippedSum:
    """What `Clipper(model).clip` gives, for a single time."""
    return Clipper(model).clip(losses, max_grad_norm)


def _checked(max_grad_norm: float) -> float:
    if not 0.0 < max_grad_norm < math.inf:
        raise InvalidRequest("max_grad_norm must be a finite number above 0")
    return float(max_grad_norm)


# ------------------------------------------------------------------------------------------- taps
@dataclass(frozen=True, slots=True)
class _Layer:
    """A module that owns trainable parameters; `exact` if it reads each of them once per pass."""

    name: str
    module: nn.Module
    own: list[nn.Parameter]
    exact: bool


class _Taps:
    """What the layers of one forward and backward pass left behind."""

    def __init__(self, units: Units | None = None) -> None:
        self.units = units
        self.anchor = torch.zeros((), requires_grad=True)
        self.examples = 0
        self.closed = False
        self.collecting = False
        self.uses: dict[nn.Parameter, int] = {}
        self.shares: dict[nn.Parameter, list[Share]] = {}
        self.lengths: dict[nn.Parameter, Tensor] = {}
        """Of parameters used once: found at once, while the processor still has the share at hand."""

    def close(self, examples: int) -> None:
        """The forward pass is over: what runs from here on is a checkpoint's second run, and not counted."""
        if self.units is not None and len(self.units.of) != examples:
            raise InvalidRequest("the units of a batch are one whole number per example")
        self.examples, self.closed = examples, True

    def collect(self, layer: str, module: nn.Module, inputs: tuple[Any, ...], output_grad: Tensor) -> None:
        if output_grad.shape[:1] != (self.examples,):
            raise UnsupportedLayer(layer, f"{type(module).__name__}: its first axis is not the example")
        inputs, output_grad = tuple(_wide(x) for x in inputs), _wide(output_grad)
        self.collecting = True  # a rule may run the layer, which is then not to be tapped
        try:
            for parameter, share in share_of(layer, module, inputs, output_grad):
                self.add(parameter, share)
        finally:
            self.collecting = False

    def add(self, parameter: nn.Parameter, share: Share) -> None:
        """Keep a use of a parameter: its part of each example's gradient, or of each unit's."""
        held = self.shares.setdefault(parameter, [])
        held.append(share if self.units is None else self.units.share(share))
        self.lengths.pop(parameter, None)
        if len(held) == 1:
            self.lengths[parameter] = norm(held)

    def norm(self, parameter: nn.Parameter) -> Tensor:
        """How long each unit's gradient of a parameter is, all uses of it added up."""
        known = self.lengths.get(parameter)
        return norm(self.shares[parameter]) if known is None else known


def _wide(values: Tensor) -> Tensor:
    """In float32 at least: what is measured is then exactly what is added up, also under autocast."""
    return values.float() if values.is_floating_point() and values.element_size() < 4 else values


Record = Callable[[tuple[Tensor, ...], Tensor], None]


class _Tap(torch.autograd.Function):
    """Passes a layer's output through unchanged, and hands its input and gradient to the book-keeper."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, anchor: Tensor, layer: _Layer, record: Record, *inputs: Tensor
    ) -> Tensor:
        ctx.layer, ctx.record = layer, record
        ctx.save_for_backward(*inputs)  # where a checkpoint drops them, and brings them back
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        try:
            inputs = ctx.saved_tensors
        except RuntimeError as refusal:
            if "inplace operation" not in str(refusal):
                raise
            kind = type(ctx.layer.module).__name__
            raise UnsupportedLayer(ctx.layer.name, f"{kind}: its input is changed in place") from refusal
        with torch.no_grad():
            ctx.record(inputs, grads[0])
        return grads[0], None, None, None, *(None for _ in inputs)


@contextmanager
def _tapped(layers: list[_Layer]) -> Iterator[_Taps]:
    """Tap these layers until the block ends; other passes through the model are not seen."""
    taps = _Taps()
    handles: list[RemovableHandle] = []
    try:
        for layer in layers:
            handles.append(layer.module.register_forward_hook(_hook(taps, layer), with_kwargs=True))
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def _hook(taps: _Taps, layer: _Layer) -> Callable[..., Any]:
    def after_forward(
        module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any
    ) -> Any:
        if taps.collecting:
            return output
        kind = type(module).__name__
        if keywords or not isinstance(output, Tensor) or not all(isinstance(x, Tensor) for x in inputs):
            raise UnsupportedLayer(layer.name, f"{kind}: not one tensor out of tensors in")
        if not taps.closed:
            inside = None if layer.exact else _uses_in_graph(output, before=inputs)
            for parameter in layer.own:
                count = 1 if inside is None else inside.get(parameter, 0)
                taps.uses[parameter] = taps.uses.get(parameter, 0) + count

        def record(inputs: tuple[Tensor, ...], output_grad: Tensor) -> None:
            taps.collect(layer.name, module, inputs, output_grad)

        remembered = [x.detach() for x in inputs]
        return _Tap.apply(output, taps.anchor, layer, record, *remembered)  # type: ignore[no-untyped-call]

    return after_forward


def _require_every_use_tapped(names: dict[nn.Parameter, str], values: Tensor, taps: _Taps) -> None:
    """Refuse a model that reads a parameter past the layer that owns it: we would miss that part."""
    uses = _uses_in_graph(values)
    for parameter, name in names.items():
        if uses.get(parameter, 0) > taps.uses.get(parameter, 0):
            raise UnsupportedLayer(name, "a parameter used outside the layer that owns it")


def _uses_in_graph(values: Tensor, before: tuple[Tensor, ...] = ()) -> dict[nn.Parameter, int]:
    """How often each leaf is read by the computation that led from `before` to `values`."""
    uses: dict[nn.Parameter, int] = {}
    seen: set[Any] = {x.grad_fn for x in before}
    waiting = [values.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":  # it hides its part of the graph from us
            raise InvalidRequest("gradient checkpointing needs use_reentrant=False to train privately")
        seen.add(node)
        for successor, _ in node.next_functions:
            leaf = getattr(successor, "variable", None)
            if leaf is not None:
                uses[leaf] = uses.get(leaf, 0) + 1
            else:
                waiting.append(successor)
    return uses


# ----------------------------------------------------------------------------------------- the sum
def _assemble(
    names: dict[nn.Parameter, str],
    taps: _Taps,
    losses: Tensor,
    known: Tensor,
    bound: float,
) -> ClippedSum:
    known = known if taps.units is None else taps.units.every(known)
    parts = [taps.norm(parameter).double() for parameter in taps.shares]
    nothing = torch.zeros(len(known), dtype=torch.float64, device=losses.device)
    norms = _together(parts) if parts else nothing
    good = _finite(norms) & known
    weights = (bound * _SLACK / norms).clamp_(max=1.0).float()
    bad = None
    if not bool(good.all()):
        weights, bad = weights.masked_fill(~good, 0.0), ~good
    return ClippedSum(
        tensors={
            name: _weighted_sum(parameter, taps.shares.get(parameter, []), weights, bad)
            for parameter, name in names.items()
        },
        bound=bound,
        count=taps.examples,
        norms=norms.cpu(),
        losses=losses.cpu(),
        made_by=_MADE_BY_CLIP,
        unit_of=None if taps.units is None else taps.units.of.cpu(),
    )


def _together(parts: list[Tensor]) -> Tensor:
    """The length of what has parts of these lengths."""
    together: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return together


def _finite(values: Tensor) -> Tensor:
    """`values.isfinite()`, in fewer steps: ∞ − ∞ and NaN − NaN are NaN, which equals nothing."""
    return (values - values) == 0.0


def _weighted_sum(parameter: Tensor, shares: list[Share], weights: Tensor, bad: Tensor | None) -> Tensor:
    totals = []
    for share in shares:
        if isinstance(share, Factors):
            totals.append((share if bad is None else share.without(bad)).weighted_sum(weights))
            continue
        flat = share.flatten(1)
        flat = flat if bad is None else flat.masked_fill(bad.unsqueeze(1), 0.0)
        totals.append((weights @ flat).view_as(parameter))
    return sum(totals[1:], start=totals[0]) if totals else torch.zeros_like(parameter)
