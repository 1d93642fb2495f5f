"""ONNX: a network of rows as one file that a runtime without torch answers from.

It reads `features` [n, …] float32, any number of examples at a time, and gives `scores` [n, outputs]: logits,
or values, as the network does. Bytes of images are to be divided by 255 first, as a trainer's reader does.
"""

from __future__ import annotations

import io
import warnings

import torch
from torch import Tensor, nn

from tg_workbench.engine.networks import Network, RowModel
from tg_workbench.engine.specs import TargetScale
from tg_workbench.engine.trainer import Trainer

OPSET = 17
"""The version of ONNX's operators: onnxruntime 1.13 and later know it."""
INPUT, OUTPUT = "features", "scores"


def to_onnx(model: Trainer | Network) -> bytes | None:
    """The network as ONNX, as others see it: without dropout, averaged where a mean is taken.

    None where `why_not` tells a reason.
    """
    if isinstance(model, Trainer):
        with model.looking() as network:
            return to_onnx(network)
    if not isinstance(model, RowModel) or model.front is not None:
        return None
    was_training = model.module.training
    first = next(model.module.parameters())
    example = torch.zeros(2, *model.input_shape, device=first.device)
    written = io.BytesIO()
    model.module.eval()
    try:
        # The exporter that traces: it needs no further package, and takes milliseconds where the other takes
        # seconds. What it warns of is that it will go, and that shapes are taken for constants.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model.module if model.target_scale is None else _Unscaled(model.module, model.target_scale),
                (example,),
                written,  # type: ignore[arg-type]  # its types know of paths only
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "examples"}, OUTPUT: {0: "examples"}},
            )
    finally:
        model.module.train(was_training)
    return written.getvalue()


class _Unscaled(nn.Module):
    """A network whose answers are numbers in their own unit."""

    def __init__(self, module: nn.Module, scale: TargetScale) -> None:
        super().__init__()
        self.module = module
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """[examples, outputs]."""
        answer: Tensor = self.scale.unscaled(self.module(features))
        return answer


def why_not(model: Trainer | Network) -> str | None:
    """Why a model has no ONNX; None: it has."""
    network = model.network if isinstance(model, Trainer) else model
    if not isinstance(network, RowModel):
        return "a language model is not written as ONNX: it is answered by torch"
    if network.front is not None:
        return "the fixed front of this network computes with complex numbers, which ONNX runtimes lack"
    return None
