"""Opacus as the engine that clips: its hooks find the gradients or norms, everything after them is ours.

`OpacusHooks` keeps every example's whole gradient. `OpacusGhost` finds norms alone in a first backward pass
and lets a second one add up the losses, each weighted by min(1, bound / norm) (Li et al. 2022). The model is
not wrapped, and hooks live for one `clip` only: evaluation, sampling and stray forward passes meet none.

Pitfalls: Opacus forgets silently what happens outside the layers it hooks, so every use of a parameter is
counted here and a model with one use too many is refused. What Opacus gets wrong (the padding row of an
embedding, padding modes) or cannot do (under ghost: tied weights, 4-D linear input; gradient checkpointing)
is refused by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tg_workbench.errors import InvalidRequest, UnsupportedLayer
from tg_workbench.privacy.clipping import (
    _MADE_BY_CLIP,
    _SLACK,
    ClippedSum,
    Clipper,
    _assemble,
    _checked,
    _Layer,
    _require_every_use_tapped,
    _Taps,
    _uses_in_graph,
)
from tg_workbench.privacy.units import Units

_MIXES_EXAMPLES = (nn.modules.batchnorm._NormBase, nn.RNNBase, nn.MultiheadAttention, nn.EmbeddingBag)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CANNOT = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, NotImplementedError)
_TIED = "used twice: tied, a layer called again, or gradient checkpointing"
_LEFT_ON_LAYERS = ("activations", "max_batch_len", "ft_compute_sample_grad", "autograd_grad_sample_hooks")
_LEFT_ON_PARAMETERS = ("grad_sample", "_forward_counter", "_current_grad_sample", "_norm_sample")


class OpacusHooks:
    """Every example's whole gradient by `opacus.GradSampleHooks`, clipped and added up as ours are."""

    engine = "opacus-hooks"

    def __init__(self, model: nn.Module) -> None:
        ours = Clipper(model)  # refuses what mixes examples
        self._nothing = ours.nothing
        self._model, self._names, self._layers = model, ours._names, ours._layers
        for layer in self._layers:
            refusal = _refusal(layer.module)
            if refusal is not None:
                raise UnsupportedLayer(layer.name, refusal, self.engine)

    def nothing(self, max_grad_norm: float) -> ClippedSum:
        """The clipped sum of an empty batch: zero."""
        return self._nothing(max_grad_norm)

    def clip(
        self, losses: Callable[[], Tensor], max_grad_norm: float, unit_of: Tensor | None = None
    ) -> ClippedSum:
        """Σᵢ gᵢ · min(1, max_grad_norm / ‖gᵢ‖); see `Clipper.clip`.

        Raises UnsupportedLayer, InvalidRequest.
        """
        bound = _checked(max_grad_norm)
        with self._hooked(_Hooks), self._watched() as watch, torch.enable_grad():
            values, known = self._run(losses, watch)
            torch.autograd.backward(values, known.to(values.dtype))
            watch.require_untouched_inputs()
            taps = _Taps(units=None if unit_of is None else Units(unit_of.to(values.device)))
            taps.close(examples=len(values))
            for parameter in self._names:
                sample = _sample_of(parameter)
                if sample is not None:
                    taps.add(parameter, sample)
                elif watch.reached.get(parameter):
                    raise UnsupportedLayer(self._names[parameter], "it got no gradient", self.engine)
        with torch.no_grad():
            return _assemble(self._names, taps, values.detach(), known, bound)

    def _run(self, losses: Callable[[], Tensor], watch: _Watch) -> tuple[Tensor, Tensor]:
        """The losses, and which of them are finite; raises for a model that Opacus would get wrong."""
        values = losses()
        if values.dim() != 1:
            raise InvalidRequest("a loss must give one value per example to be clipped")
        watch.close(examples=len(values))
        _require_every_use_tapped(self._names, values, watch)
        watch.reached = _uses_in_graph(values)
        return values, values.detach().isfinite()

    @contextmanager
    def _watched(self) -> Iterator[_Watch]:
        """Count, in our own hooks, how often each layer runs and on what.

        Only once Opacus has copied the layers it has no rule for, or the copies would be watched too.
        """
        watch = _Watch(self.engine)
        handles: list[RemovableHandle] = []
        try:
            for layer in self._layers:
                hook = watch.hook(layer)
                handles.append(layer.module.register_forward_hook(hook, with_kwargs=True))
            yield watch
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _hooked(self, kind: type[_Hooks | _GhostHooks]) -> Iterator[_Hooks | _GhostHooks]:
        """Opacus's hooks on the model, and afterwards nothing of them, nor any gradient."""
        gradients = {parameter: parameter.grad for parameter in self._names}
        hooks = None
        try:
            try:
                hooks = kind(self._model, loss_reduction="sum")
            except _CANNOT as refusal:
                raise UnsupportedLayer("", str(refusal), self.engine) from refusal
            hooks.about = (self.engine, {layer.module: layer.name for layer in self._layers})
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")  # as it should
                yield hooks
        finally:
            for handle in getattr(self._model, "autograd_grad_sample_hooks", []):
                handle.remove()
            if hooks is not None:
                hooks.disable_hooks()
            _forget(self._model)
            for parameter, gradient in gradients.items():
                parameter.grad = gradient


class OpacusGhost(OpacusHooks):
    """Norms by Opacus's ghost clipping in one backward pass, the clipped sum in a second one.

    A batch that holds an example whose loss or gradient is not finite is clipped by `OpacusHooks`, for a
    weight of zero does not keep ∞ out of a sum. Linear norms are found in float64: in float32 a Gram matrix
    can come out too short, and then the bound would not hold.
    """

    engine = "opacus-ghost"

    def clip(
        self, losses: Callable[[], Tensor], max_grad_norm: float, unit_of: Tensor | None = None
    ) -> ClippedSum:
        """Σᵢ gᵢ · min(1, max_grad_norm / ‖gᵢ‖); see `Clipper.clip`. Runs `losses` again for a bad example.

        Raises UnsupportedLayer, InvalidRequest: also for units, whose sums ghost norms cannot tell.
        """
        bound = _checked(max_grad_norm)
        if unit_of is not None:
            raise InvalidRequest(
                "engine opacus-ghost knows the norms of single examples, not of a unit's sum: "
                "use book-keeping or opacus-hooks for data with unit_ids"
            )
        with self._hooked(_GhostHooks) as hooks, self._watched() as watch, torch.enable_grad():
            values, known = self._run(losses, watch)
            self._require_ghost_can(watch)
            torch.autograd.backward(values, known.to(values.dtype), retain_graph=True)
            watch.require_untouched_inputs()
            norms = self._norms(watch, values)
            if bool((norms.isfinite() & known).all()):
                hooks.disable_hooks()
                return self._second_pass(values, norms, bound)
        return super().clip(losses, max_grad_norm)

    def _require_ghost_can(self, watch: _Watch) -> None:
        for parameter, calls in watch.calls.items():
            if calls > 1:
                raise UnsupportedLayer(self._names[parameter], _TIED, self.engine)
        for layer, output in watch.outputs:
            if isinstance(layer.module, nn.Linear) and output.dim() not in (2, 3):
                raise UnsupportedLayer(layer.name, f"Linear on {output.dim()}-D input", self.engine)

    def _norms(self, watch: _Watch, values: Tensor) -> Tensor:
        """‖gᵢ‖ in float64."""
        squares = torch.zeros_like(values, dtype=torch.float64, requires_grad=False)
        for parameter, name in self._names.items():
            found = getattr(parameter, "_norm_sample", None)
            if found is not None and found.shape == values.shape:
                squares += found.detach().double().square()
            elif found is not None or watch.reached.get(parameter):
                raise UnsupportedLayer(name, "it got no norm for each example", self.engine)
        return squares.sqrt()

    def _second_pass(self, values: Tensor, norms: Tensor, bound: float) -> ClippedSum:
        weights = (bound * _SLACK / norms).clamp_(max=1.0).to(values.dtype)
        found = torch.autograd.grad(values, list(self._names), weights, materialize_grads=True)
        return ClippedSum(
            tensors=dict(zip(self._names.values(), found, strict=True)),
            bound=bound,
            count=len(values),
            norms=norms.cpu(),
            losses=values.detach().cpu(),
            made_by=_MADE_BY_CLIP,
        )


# ----------------------------------------------------------------------------------------- watching
class _Watch(_Taps):
    """How often each parameter is used, and by what, in one forward pass."""

    def __init__(self, engine: str) -> None:
        super().__init__()
        self.engine = engine
        self.calls: dict[nn.Parameter, int] = {}
        self.reached: dict[nn.Parameter, int] = {}
        """How often the losses depend on each parameter."""
        self.inputs: list[tuple[_Layer, Tensor, int]] = []
        self.outputs: list[tuple[_Layer, Tensor]] = []

    def hook(self, layer: _Layer) -> Callable[..., None]:
        """What to do after each forward pass of a layer."""

        def after_forward(
            module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any
        ) -> None:
            if self.closed:
                raise UnsupportedLayer(layer.name, "run again by gradient checkpointing", self.engine)
            kind = type(module).__name__
            tensors = isinstance(output, Tensor) and all(isinstance(x, Tensor) for x in inputs)
            if keywords or not tensors or len(inputs) != 1:
                raise UnsupportedLayer(layer.name, f"{kind}: not one tensor out of one in", self.engine)
            if not module.training:
                raise UnsupportedLayer(layer.name, f"{kind} in evaluation mode", self.engine)
            inside = None if layer.exact or _is_conv(module) else _uses_in_graph(output, before=inputs)
            for parameter in layer.own:
                count = 1 if inside is None else inside.get(parameter, 0)
                self.uses[parameter] = self.uses.get(parameter, 0) + count
                self.calls[parameter] = self.calls.get(parameter, 0) + 1
            self.inputs.append((layer, inputs[0], inputs[0]._version))
            self.outputs.append((layer, output))

        return after_forward

    def close(self, examples: int) -> None:
        """The forward pass is over; raises UnsupportedLayer where the first axis is not the example."""
        super().close(examples)
        seen = [(layer, x) for layer, x, _ in self.inputs] + self.outputs
        for layer, values in seen:
            if values.shape[:1] != (examples,):
                kind = type(layer.module).__name__
                raise UnsupportedLayer(layer.name, f"{kind}: its first axis is not the example")

    def require_untouched_inputs(self) -> None:
        """Raise where an input was changed after its layer had read it: Opacus keeps no copy."""
        for layer, x, version in self.inputs:
            if x._version != version:
                raise UnsupportedLayer(layer.name, "its input is changed in place", self.engine)


def _is_conv(module: nn.Module) -> bool:
    return type(module) in _CONVOLUTIONS


def _refusal(module: nn.Module) -> str | None:
    """Why Opacus cannot clip this layer, or would get it wrong; None if it can."""
    kind = type(module).__name__
    if isinstance(module, _MIXES_EXAMPLES) or any(module.children()):
        return kind
    if isinstance(module, _CONVOLUTIONS) and module.padding_mode != "zeros":
        return f"{kind} with padding_mode {module.padding_mode}"
    if isinstance(module, nn.Embedding):
        special = ("padding_idx", "max_norm", "scale_grad_by_freq", "sparse")
        return next((f"Embedding with {name}" for name in special if _is_set(getattr(module, name))), None)
    return None


def _is_set(value: object) -> bool:
    return value is not None and value is not False


# -------------------------------------------------------------------------------------------- hooks
class _NamedRefusals:
    """A layer that Opacus fails on is refused by its name, not by what Opacus stumbled over."""

    about: tuple[str, dict[nn.Module, str]]

    def capture_activations_hook(self, module: nn.Module, *arguments: Any) -> None:
        """One layer on the way forth."""
        try:
            super().capture_activations_hook(module, *arguments)  # type: ignore[misc]
        except NotImplementedError as refusal:
            engine, names = self.about
            raise UnsupportedLayer(names.get(module, ""), _TIED, engine) from refusal

    def capture_backprops_hook(self, module: nn.Module, *arguments: Any, **keywords: Any) -> None:
        """One layer on the way back."""
        try:
            super().capture_backprops_hook(module, *arguments, **keywords)  # type: ignore[misc]
        except _CANNOT as refusal:
            engine, names = self.about
            kind = type(module).__name__
            raise UnsupportedLayer(names.get(module, ""), kind, engine) from refusal


class _Hooks(_NamedRefusals, GradSampleHooks):  # type: ignore[misc]  # Opacus is untyped
    """Per-example gradients."""


class _GhostHooks(_NamedRefusals, GradSampleHooksFastGradientClipping):  # type: ignore[misc]
    """Per-example norms, in float64 where Opacus has a rule for the layer."""

    def rearrange_grad_samples(self, *, module: nn.Module, **keywords: Any) -> tuple[list[Tensor], Tensor]:
        """What Opacus makes norms from."""
        activations, backprops = super().rearrange_grad_samples(module=module, **keywords)
        if type(module) not in self.GRAD_SAMPLERS:  # differentiated again, with float32 parameters
            return activations, backprops
        wide = [x.double() if x.is_floating_point() else x for x in activations]
        return wide, backprops.double()


def _sample_of(parameter: nn.Parameter) -> Tensor | None:
    """Every example's gradient; of a tied parameter of which one use did not reach the loss, the rest."""
    found = getattr(parameter, "grad_sample", None)
    sample: Tensor | None = found if found is not None else getattr(parameter, "_current_grad_sample", None)
    return sample


def _forget(model: nn.Module) -> None:
    """Take off what Opacus put on a model: among it are the inputs of every layer."""
    for module in model.modules():
        for name in _LEFT_ON_LAYERS:
            module.__dict__.pop(name, None)
    for parameter in model.parameters():
        for name in _LEFT_ON_PARAMETERS:
            if hasattr(parameter, name):
                delattr(parameter, name)
