"""ResNets: the layers of transformers' ResNet (He et al. 2016), less what mixes examples or writes in place.

**Why GroupNorm.** BatchNorm mixes the examples of a batch, and then no example has a gradient of its own.
Without it a network's state is its parameters, and it answers the same in learning as in looking.

**Why the stem shrinks less.** It was made for images of 224 pixels. Here it halves an image only while 8
pixels of its shorter side are left: those of 8×8 come to the stages whole, from 32×32 on it is the paper's.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from tg_workbench.engine.images import SMALLEST_IMAGE, as_image
from tg_workbench.engine.networks import RowModel
from tg_workbench.engine.specs import Architecture
from tg_workbench.errors import InvalidRequest

GROUPS = 32
"""Into how many groups channels are normalised (Wu and He 2018); of few channels at least two together."""
STEM_WIDTH = 64


def resnet(
    shape: Architecture, name: str, kind: str, depths: tuple[int, ...], widths: tuple[int, ...]
) -> RowModel:
    """A ResNet of `kind` basic or bottleneck; `hidden_sizes` are other widths of its stages, or of fewer.

    With 1000 classes and three channels resnet18 has 11,689,512 parameters and resnet50 25,557,032, as with
    BatchNorm. Fewer classes make fewer of them: 10 classes leave 11,181,642 and 23,528,522.
    """
    widths = shape.hidden_sizes or widths
    if len(widths) > len(depths):
        raise InvalidRequest(f"{name} takes hidden_sizes for at most {len(depths)} stages")
    (channels, *sides), layout = as_image(shape.input_shape, name)
    made = ResNetModel(
        ResNetConfig(
            num_channels=channels,
            embedding_size=min(STEM_WIDTH, widths[0]),
            hidden_sizes=list(widths),
            depths=list(depths[: len(widths)]),
            layer_type=kind,
        )
    )
    layers: OrderedDict[str, nn.Module] = OrderedDict() if layout is None else OrderedDict(image=layout)
    layers.update(_stem(made.embedder, min(sides)))
    layers["stages"] = nn.Sequential(*(_stage(stage) for stage in made.encoder.stages))
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(widths[-1], shape.output_size)
    module = nn.Sequential(layers)
    _without_batch_norm(module)
    return RowModel(module, shape.input_shape, shape.output_size)


class Residual(nn.Module):
    """A block of transformers' ResNet, whose own sum would be written over what a layer made."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.layer = block.get_submodule("layer")
        self.shortcut = block.get_submodule("shortcut")
        self.activation = block.get_submodule("activation")

    def forward(self, x: Tensor) -> Tensor:
        """What the layers make of x, and x."""
        said: Tensor = self.activation(self.layer(x) + self.shortcut(x))
        return said


def _stem(embedder: nn.Module, side: int) -> OrderedDict[str, nn.Module]:
    layers = OrderedDict(stem=embedder.get_submodule("embedder"))
    convolution = layers["stem"].get_submodule("convolution")
    assert isinstance(convolution, nn.Conv2d)  # noqa: S101  (transformers makes it so)
    if side < 2 * SMALLEST_IMAGE:
        convolution.stride = (1, 1)
    if side >= 4 * SMALLEST_IMAGE:
        layers["pool"] = embedder.get_submodule("pooler")
    return layers


def _stage(stage: nn.Module) -> nn.Sequential:
    return nn.Sequential(*(Residual(block) for block in stage.get_submodule("layers").children()))


def _without_batch_norm(module: nn.Module) -> None:
    """Put a GroupNorm where there is a BatchNorm, in place."""
    for child_name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            channels = child.num_features
            setattr(
                module, child_name, nn.GroupNorm(math.gcd(GROUPS, channels, max(1, channels // 2)), channels)
            )
        else:
            _without_batch_norm(child)
