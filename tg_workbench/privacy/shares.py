"""Share: one layer's part of every example's gradient, whole or as two factors.

A rule per kind of layer turns (input, gradient of the output) into shares of that layer's own parameters.
Layers without a rule are differentiated example by example under vmap; what that cannot do is refused by
name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tg_workbench.errors import UnsupportedLayer

_MANY_PIXELS = 32
"""From this many output pixels on, a grouped convolution is quicker than laying patches side by side."""
_CHUNK = 4096
"""How many squares are added in float32 before float64 takes over."""


@dataclass(frozen=True, slots=True)
class Factors:
    """A gradient Σₜ left[t] ⊗ right[t] per example, t being its rows (tokens, pixels, or a single one).

    `left` is [examples, rows, outputs], or the number of the one output of each row ([examples, rows], long).
    """

    left: Tensor
    right: Tensor
    shape: torch.Size
    """The shape of the parameter."""

    @property
    def picks(self) -> bool:
        """Whether each row touches a single output, as an embedding does."""
        return self.left.dtype == torch.long

    def inner(self, other: Factors) -> Tensor:
        """⟨self, other⟩ of each example, in float64: Gram matrices cancel too much for float32."""
        rights = self.right.double() @ other.right.double().mT
        if self.picks and other.picks:
            lefts = (self.left.unsqueeze(2) == other.left.unsqueeze(1)).double()
        elif self.picks:
            picked = self.left.unsqueeze(1).expand(-1, other.left.shape[1], -1)
            lefts = other.left.double().gather(2, picked).mT
        elif other.picks:
            return other.inner(self)
        else:
            lefts = self.left.double() @ other.left.double().mT
        inner: Tensor = (lefts * rights).sum((1, 2))
        return inner

    def norm(self) -> Tensor:
        """‖gradient‖ of each example."""
        if self.right.shape[1] == 1 and not self.picks:
            return _norm(self.left).double() * _norm(self.right)
        if self.picks:
            return _norm(self._folded())
        return self.inner(self).clamp(min=0.0).sqrt()

    def _folded(self) -> Tensor:
        """The rows that pick the same output added up, where the first of them is; the others zero."""
        examples, rows, width = self.right.shape
        same = self.left.unsqueeze(2) == self.left.unsqueeze(1)
        first = same.to(torch.uint8).argmax(2)  # of equal ones argmax gives the first
        places = first + rows * torch.arange(examples, device=first.device).unsqueeze(1)
        folded = self.right.new_zeros(examples * rows, width)
        return folded.index_add_(0, places.flatten(), self.right.flatten(0, 1)).view(examples, -1)

    def without(self, bad: Tensor) -> Factors:
        """The same with the examples in the mask `bad` set to zero."""
        mask = bad.view(-1, 1, 1)
        left = self.left if self.picks else self.left.masked_fill(mask, 0.0)
        return replace(self, left=left, right=self.right.masked_fill(mask, 0.0))

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Σᵢ weights[i] · gradient of example i."""
        weights = weights.view(-1, 1, 1)
        if not self.picks and self.left.shape[2] < self.right.shape[2]:
            return ((self.left * weights).flatten(0, 1).mT @ self.right.flatten(0, 1)).view(self.shape)
        right = (self.right * weights).flatten(0, 1)
        if self.picks:
            total = right.new_zeros(self.shape[0], right.shape[1])
            return total.index_add_(0, self.left.flatten(), right).view(self.shape)
        return (self.left.flatten(0, 1).mT @ right).view(self.shape)

    def whole(self) -> Tensor:
        """The gradient of each example, [examples, *shape]."""
        if not self.picks:
            return (self.left.mT @ self.right).view(-1, *self.shape)
        examples, width = self.right.shape[0], self.right.shape[2]
        flat = self.right.new_zeros(examples * self.shape[0], width)
        offsets = torch.arange(examples, device=flat.device).unsqueeze(1) * self.shape[0]
        flat.index_add_(0, (self.left + offsets).flatten(), self.right.flatten(0, 1))
        return flat.view(examples, *self.shape)

    def settled(self) -> Share:
        """These factors, or the whole gradient of each example where that is not much larger."""
        stays = _stays_in_factors(self.right.shape[1], self.shape, picks=self.picks)
        return self if stays else self.whole()


def _stays_in_factors(rows: int, shape: torch.Size, *, picks: bool) -> bool:
    """Whole gradients are quicker to measure than factors; factors keep a large model in memory."""
    if rows == 1 and not picks:
        return True
    outputs, inputs = shape[0], math.prod(shape[1:])
    held = rows * inputs if picks else rows * (outputs + inputs)
    return outputs * inputs > 2 * held


Share = Tensor | Factors
Shares = Iterator[tuple[nn.Parameter, Share]]


def norm(shares: list[Share]) -> Tensor:
    """‖Σ shares‖ of each example."""
    if len(shares) == 1:
        return shares[0].norm() if isinstance(shares[0], Factors) else _norm(shares[0])
    factors = [share for share in shares if isinstance(share, Factors)]
    if len(factors) < len(shares):
        return _norm(whole(shares))
    pairs = [one.inner(other) for one in factors for other in factors]
    return torch.stack(pairs).sum(0).clamp(min=0.0).sqrt()


def whole(shares: list[Share]) -> Tensor:
    """Σ shares, whole: [examples, *shape]."""
    tensors = [share.whole() if isinstance(share, Factors) else share for share in shares]
    return sum(tensors[1:], start=tensors[0])


def _norm(values: Tensor) -> Tensor:
    """Each example's length: float32 over short stretches, float64 over the stretches."""
    flat = values.flatten(1)
    if flat.shape[1] <= _CHUNK:
        norms: Tensor = torch.linalg.vector_norm(flat, dim=1)
        return norms
    chunked = flat.shape[1] // _CHUNK * _CHUNK
    chunks = torch.linalg.vector_norm(flat[:, :chunked].unflatten(1, (-1, _CHUNK)), dim=2)
    rest = torch.linalg.vector_norm(flat[:, chunked:], dim=1, keepdim=True)
    norms = torch.linalg.vector_norm(torch.cat((chunks, rest), dim=1).double(), dim=1)
    return norms


# ------------------------------------------------------------------------------------------ rules
def has_rule(module: nn.Module) -> bool:
    """Whether this kind of layer uses each of its parameters exactly once per pass, as a rule assumes."""
    return _rule_of(module) is not None


def share_of(layer: str, module: nn.Module, inputs: tuple[Tensor, ...], grad: Tensor) -> Shares:
    """The share of each trainable parameter that `module` itself owns."""
    rule = _rule_of(module)
    if rule is None or len(inputs) != 1:
        yield from _by_vmap(layer, module, inputs, grad)
        return
    if rule is _convolution and inputs[0].dim() != module.weight.dim():  # type: ignore[operator]
        raise UnsupportedLayer(layer, f"{type(module).__name__}: its first axis is not the example")
    for name, share in rule(module, inputs[0], grad):
        parameter = getattr(module, name)
        if parameter is not None and parameter.requires_grad:
            found = share() if callable(share) else share
            yield parameter, found.settled() if isinstance(found, Factors) else found


Rule = Callable[..., Iterator[tuple[str, "Share | Callable[[], Share]"]]]


def _linear(module: nn.Linear, x: Tensor, grad: Tensor) -> Iterator[tuple[str, Share | Callable[[], Share]]]:
    left, right = _as_rows(grad), _as_rows(x)
    yield "weight", lambda: Factors(left, right, module.weight.shape)
    yield "bias", lambda: left.squeeze(1) if left.shape[1] == 1 else left.sum(1)


def _turned_linear(
    module: nn.Module, x: Tensor, grad: Tensor
) -> Iterator[tuple[str, Share | Callable[[], Share]]]:
    """GPT-2's Conv1D: a linear layer whose weight is [inputs, outputs]."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    left, right = _as_rows(grad), _as_rows(x)
    yield "weight", lambda: Factors(right, left, weight.shape)
    yield "bias", lambda: left.sum(1)


@dataclass(frozen=True, slots=True)
class _Window:
    """How a convolution walks over an image, (down, across); one along a line walks an image of one row."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, module: nn.Conv1d | nn.Conv2d) -> _Window:
        """The window of a layer whose padding is numbers."""
        assert not isinstance(module.padding, str)  # noqa: S101  (_rule_of leaves those out)
        line = isinstance(module, nn.Conv1d)

        def both(sides: tuple[int, ...], of_one_row: int) -> tuple[int, int]:
            return (of_one_row, sides[0]) if line else (sides[0], sides[1])

        return cls(
            both(module.kernel_size, 1),
            both(module.stride, 1),
            both(module.padding, 0),
            both(module.dilation, 1),
            module.groups,
        )

    def weight_of_each(self, x: Tensor, grad: Tensor) -> Tensor:
        """The weight gradient of each example, by one convolution in which every example is a group."""
        examples, outputs, inputs = len(x), grad.shape[1], x.shape[1] // self.groups
        found: Tensor = torch.ops.aten.convolution_backward(
            grad.reshape(1, -1, *grad.shape[2:]),
            x.reshape(1, -1, *x.shape[2:]),
            grad.new_empty(examples * outputs, inputs, *self.kernel),  # only its shape is read
            None,
            self.stride,
            self.padding,
            self.dilation,
            False,
            (0, 0),
            examples * self.groups,
            (False, True, False),
        )[1]
        return found.view(examples, outputs, inputs, *self.kernel)

    def patches(self, x: Tensor) -> Tensor:
        """What each output pixel saw: [examples, inputs of one pixel, pixels]."""
        (above, beside), (far_y, far_x) = self.padding, self.dilation
        (high, wide), (step_y, step_x) = self.kernel, self.stride
        padded = F.pad(x, (beside, beside, above, above))
        height = (padded.shape[2] - far_y * (high - 1) - 1) // step_y + 1
        width = (padded.shape[3] - far_x * (wide - 1) - 1) // step_x + 1
        example, channel, row, column = padded.stride()
        windows = padded.as_strided(
            (*padded.shape[:2], high, wide, height, width),
            (example, channel, far_y * row, far_x * column, step_y * row, step_x * column),
        )
        return windows.reshape(len(x), -1, height * width)


def _convolution(
    module: nn.Conv1d | nn.Conv2d, x: Tensor, grad: Tensor
) -> Iterator[tuple[str, Share | Callable[[], Share]]]:
    window, shape, left = _Window.of(module), module.weight.shape, grad.flatten(2).mT

    def weight() -> Share:
        images = (x, grad) if x.dim() == 4 else (x.unsqueeze(2), grad.unsqueeze(2))
        factors = _stays_in_factors(left.shape[1], shape, picks=False)
        if module.groups > 1 or (not factors and left.shape[1] >= _MANY_PIXELS):
            return window.weight_of_each(*images).view(-1, *shape)
        return Factors(left, window.patches(images[0]).mT, shape)

    yield "weight", weight
    yield "bias", lambda: left.sum(1)


def _embedding(
    module: nn.Embedding, x: Tensor, grad: Tensor
) -> Iterator[tuple[str, Share | Callable[[], Share]]]:
    ids, right = x.reshape(x.shape[0], -1).long(), _as_rows(grad)
    if module.padding_idx is not None:
        right = right.masked_fill((ids == module.padding_idx).unsqueeze(2), 0.0)
    yield "weight", lambda: Factors(ids, right, module.weight.shape)


def _layer_norm(
    module: nn.LayerNorm, x: Tensor, grad: Tensor
) -> Iterator[tuple[str, Share | Callable[[], Share]]]:
    shape = tuple(module.normalized_shape)
    yield "weight", lambda: _summed(F.layer_norm(x, shape, eps=module.eps).mul_(grad), shape)
    yield "bias", lambda: _summed(grad, shape)


def _rms_norm(
    module: nn.RMSNorm, x: Tensor, grad: Tensor
) -> Iterator[tuple[str, Share | Callable[[], Share]]]:
    shape = tuple(module.normalized_shape)
    yield "weight", lambda: _summed(F.rms_norm(x, shape, eps=module.eps).mul_(grad), shape)


def _llama_rms_norm(
    module: nn.Module, x: Tensor, grad: Tensor
) -> Iterator[tuple[str, Share | Callable[[], Share]]]:
    shape, eps = (x.shape[-1],), float(module.variance_epsilon)  # type: ignore[arg-type]
    yield "weight", lambda: _summed(F.rms_norm(x, shape, eps=eps).mul_(grad), shape)


def _group_norm(
    module: nn.GroupNorm, x: Tensor, grad: Tensor
) -> Iterator[tuple[str, Share | Callable[[], Share]]]:
    yield (
        "weight",
        lambda: F.group_norm(x, module.num_groups, eps=module.eps).mul_(grad).flatten(2).sum(2),
    )
    yield "bias", lambda: grad.flatten(2).sum(2)


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
    nn.GroupNorm: _group_norm,
}
_LLAMA_RMS_NORMS = frozenset(
    {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "Phi3RMSNorm", "SmolLM3RMSNorm"}
)
"""Layers of transformers that are the same few lines under many names."""


def _rule_of(module: nn.Module) -> Rule | None:
    kind = type(module)
    if kind.__module__.startswith("transformers.") and kind.__name__ in _LLAMA_RMS_NORMS:
        return _llama_rms_norm
    if kind.__module__ == "transformers.pytorch_utils" and kind.__name__ == "Conv1D":
        return _turned_linear
    if isinstance(module, nn.Conv1d | nn.Conv2d) and (
        module.padding_mode != "zeros" or isinstance(module.padding, str)
    ):
        return None
    if isinstance(module, nn.Embedding) and (
        module.max_norm is not None or module.scale_grad_by_freq or module.sparse
    ):
        return None
    return _RULES.get(kind)


def _as_rows(values: Tensor) -> Tensor:
    """[examples, …, width] as [examples, rows, width]."""
    return values.unsqueeze(1) if values.dim() == 2 else values.flatten(1, -2)


def _summed(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum over everything between the example and the last axes of `shape`."""
    return values.reshape(values.shape[0], -1, *shape).sum(1)


# --------------------------------------------------------------------------------------- fallback
_MIXES_EXAMPLES = (nn.modules.batchnorm._NormBase, nn.RNNBase, nn.MultiheadAttention)


def _by_vmap(layer: str, module: nn.Module, inputs: tuple[Tensor, ...], grad: Tensor) -> Shares:
    kind = type(module).__name__
    if isinstance(module, _MIXES_EXAMPLES) or any(module.children()):
        raise UnsupportedLayer(layer, kind)
    if any(x.shape[:1] != grad.shape[:1] for x in inputs):
        raise UnsupportedLayer(layer, f"{kind}: its first axis is not the example")
    own = {name: p.detach() for name, p in module.named_parameters(recurse=False) if p.requires_grad}

    def one_example(xs: tuple[Tensor, ...], output_grad: Tensor) -> dict[str, Tensor]:
        def output_of(parameters: dict[str, Tensor]) -> Tensor:
            output: Tensor = torch.func.functional_call(module, parameters, tuple(x.unsqueeze(0) for x in xs))
            return output.squeeze(0)

        pulled: dict[str, Tensor] = torch.func.vjp(output_of, own)[1](output_grad)[0]
        return pulled

    try:
        with torch.enable_grad():
            grads = torch.func.vmap(one_example)(inputs, grad)
    except (RuntimeError, ValueError, TypeError) as refusal:
        raise UnsupportedLayer(layer, kind) from refusal
    for name, parameter in module.named_parameters(recurse=False):
        if name in grads:
            yield parameter, grads[name].detach()
