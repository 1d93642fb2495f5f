"""Names → networks. A network says what it reads and what it answers; how it learns is the trainer's part.

Every network starts from the same numbers each time, unless another seed is asked for: two runs differ by
their data and noise alone.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from tg_workbench.engine.images import as_image
from tg_workbench.engine.networks import Classifier, LanguageModel, Network, RowModel, TextClassifier
from tg_workbench.engine.scattering import ScatteringFront
from tg_workbench.engine.specs import Architecture
from tg_workbench.errors import InvalidRequest, UnknownModel


def mlp(shape: Architecture) -> RowModel:
    """Linear layers with tanh between: bounded activations lose the least to clipping (Papernot 2020)."""
    sizes = [math.prod(shape.input_shape), *(shape.hidden_sizes or (64,)), shape.output_size]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if len(shape.input_shape) > 1:
        layers["flatten"] = nn.Flatten()
    for number, (inputs, outputs) in enumerate(pairwise(sizes[:-1]), start=1):
        layers[f"hidden_{number}"] = nn.Linear(inputs, outputs)
        layers[f"tanh_{number}"] = nn.Tanh()
    layers["output"] = nn.Linear(sizes[-2], sizes[-1])
    return RowModel(nn.Sequential(layers), shape.input_shape, shape.output_size)


def cnn(shape: Architecture) -> RowModel:
    """Convolutions that halve the image, each with GroupNorm, then one linear layer.

    **Why GroupNorm.** BatchNorm mixes the examples of a batch, and then no example has a gradient of its own.
    """
    (channels, height, width), layout = as_image(shape.input_shape, "cnn")
    layers: OrderedDict[str, nn.Module] = OrderedDict() if layout is None else OrderedDict(image=layout)
    for number, outputs in enumerate(shape.hidden_sizes or (16, 32), start=1):
        layers[f"conv_{number}"] = nn.Conv2d(channels, outputs, kernel_size=3, stride=2, padding=1)
        layers[f"norm_{number}"] = nn.GroupNorm(math.gcd(4, outputs), outputs)
        layers[f"tanh_{number}"] = nn.Tanh()
        channels, height, width = outputs, (height + 1) // 2, (width + 1) // 2
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(channels * height * width, shape.output_size)
    return RowModel(nn.Sequential(layers), shape.input_shape, shape.output_size)


def tempered_cnn(shape: Architecture) -> RowModel:
    """The network of Papernot et al. (2021) and of Tramèr and Boneh (2021) for images of 28×28, at any size.

    Convolutions of 8×8 and 4×4 with tanh and overlapping maxima, then a hidden layer. `hidden_sizes` are the
    channels of the convolutions, the last for all that follow, and that layer: 16, 32, 32. Images with a side
    below 16 start with 4×4 at every pixel; larger ones get more convolutions, until no side is above 8.
    """
    (channels, *sides), layout = as_image(shape.input_shape, "tempered-cnn")
    *widths, hidden = shape.hidden_sizes or (16, 32, 32)
    if not widths:
        raise InvalidRequest("tempered-cnn takes hidden_sizes for its convolutions and its hidden layer")
    kernel, stride = (8, 2) if min(sides) >= 16 else (4, 1)
    layers: OrderedDict[str, nn.Module] = OrderedDict() if layout is None else OrderedDict(image=layout)
    padding, number = 2, 1
    while number <= 2 or (max(sides) > 8 and min(sides) > kernel):
        outputs = widths[min(number, len(widths)) - 1]
        layers[f"conv_{number}"] = nn.Conv2d(channels, outputs, kernel, stride, padding)
        layers[f"tanh_{number}"] = nn.Tanh()
        layers[f"pool_{number}"] = nn.MaxPool2d(2, stride=1)
        sides = [(side + 2 * padding - kernel) // stride for side in sides]
        channels, number = outputs, number + 1
        kernel, stride, padding = 4, 2, 0
    layers["flatten"] = nn.Flatten()
    layers["hidden"] = nn.Linear(channels * math.prod(sides), hidden)
    layers["tanh_hidden"] = nn.Tanh()
    layers["output"] = nn.Linear(hidden, shape.output_size)
    return RowModel(nn.Sequential(layers), shape.input_shape, shape.output_size)


def scattering(shape: Architecture) -> RowModel:
    """Fixed wavelet features of an image, then one linear layer, or `hidden_sizes` with tanh between.

    What need not be learned needs no privacy: under small ε this beats a network that learns its own features
    (Tramèr and Boneh 2021).
    """
    if len(shape.input_shape) != 3:
        raise InvalidRequest("scattering needs an input_shape of channels × height × width, at least 8×8")
    front = ScatteringFront(*shape.input_shape)
    sizes = [math.prod(front.output_shape), *shape.hidden_sizes]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layers[f"hidden_{number}"] = nn.Linear(inputs, outputs)
        layers[f"tanh_{number}"] = nn.Tanh()
    layers["output"] = nn.Linear(sizes[-1], shape.output_size)
    return RowModel(nn.Sequential(layers), shape.input_shape, shape.output_size, front)


def linear(shape: Architecture) -> RowModel:
    """One linear layer to numbers: least squares, unless the targets are classes."""
    return _one_layer(shape, loss="mse" if shape.output_size == 1 else None)


def logistic(shape: Architecture) -> RowModel:
    """One linear layer to classes; of a single output, to yes or no."""
    return _one_layer(shape, loss="bce" if shape.output_size == 1 else "cross_entropy")


def _one_layer(shape: Architecture, loss: str | None) -> RowModel:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if len(shape.input_shape) > 1:
        layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(math.prod(shape.input_shape), shape.output_size)
    return RowModel(nn.Sequential(layers), shape.input_shape, shape.output_size, loss=loss)


def resnet18(shape: Architecture) -> RowModel:
    """18 layers of residual blocks, with GroupNorm: 11.7 million parameters at 1000 classes."""
    from tg_workbench.engine.resnets import resnet

    return resnet(shape, "resnet18", "basic", (2, 2, 2, 2), (64, 128, 256, 512))


def resnet50(shape: Architecture) -> RowModel:
    """50 layers, in blocks with bottlenecks, with GroupNorm: 25.6 million parameters at 1000 classes."""
    from tg_workbench.engine.resnets import resnet

    return resnet(shape, "resnet50", "bottleneck", (3, 4, 6, 3), (256, 512, 1024, 2048))


ROW_MODELS: dict[str, Callable[[Architecture], RowModel]] = {
    "linear": linear,
    "logistic": logistic,
    "mlp": mlp,
    "cnn": cnn,
    "tempered-cnn": tempered_cnn,
    "scattering": scattering,
    "resnet18": resnet18,
    "resnet50": resnet50,
}
LANGUAGE_MODELS = ("tiny-llama", "smollm2-135m")


def known_models() -> list[str]:
    """Every model_ref that needs no folder."""
    return [*ROW_MODELS, *LANGUAGE_MODELS]


def build(model_ref: str, architecture: Architecture | None, cache_folder: Path, *, seed: int = 0) -> Network:
    """The network that `model_ref` names, in float32, with all its parameters trainable.

    A language model with an architecture tells texts apart: then its head is, and nothing else. `seed` is for
    what is new; the model that a client starts from is the same for all, also where its weights are random.
    """
    if model_ref in ROW_MODELS:
        if architecture is None or not architecture.input_shape:
            raise InvalidRequest(f"{model_ref} needs an architecture: input_shape, output_size, hidden_sizes")
        with drawn_from(seed):
            return replace(ROW_MODELS[model_ref](architecture), target_scale=architecture.target_scale)
    with drawn_from(0):
        network = _language_model(model_ref, cache_folder)
    if architecture is None:
        return network
    with drawn_from(seed):
        return text_classifier(network, architecture)


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """While this lasts weights are drawn from this seed; what is drawn elsewhere notices nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _language_model(model_ref: str, cache_folder: Path) -> LanguageModel:
    folder = Path(model_ref).expanduser()
    if model_ref not in LANGUAGE_MODELS and not (folder.is_absolute() and folder.is_dir()):
        raise UnknownModel(known_models())
    # Imported here because it brings transformers, which a client of rows need not wait for.
    from tg_workbench.engine import language_models

    if model_ref == "tiny-llama":
        return language_models.tiny_llama()
    if model_ref == "smollm2-135m":
        return language_models.smollm2_135m(cache_folder)
    return language_models.load_folder(folder)


def text_classifier(network: LanguageModel, shape: Architecture) -> TextClassifier:
    """The trunk of a language model, frozen, with a head of `output_size` on its last token."""
    if shape.input_shape or shape.hidden_sizes or shape.target_scale:
        raise InvalidRequest(
            "a language model that tells texts apart takes an architecture of output_size alone: leave "
            "all else of it empty"
        )
    name = str(network.module.base_model_prefix)
    trunk = network.module.get_submodule(name).requires_grad_(False)
    module = Classifier(trunk, name, shape.output_size, network.tokenizer.pad_id)
    return TextClassifier(
        module, network.tokenizer, network.vocabulary_size, network.max_length, shape.output_size
    )
