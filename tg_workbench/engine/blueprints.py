"""Blueprint: how a network was built, as JSON, to build it again and put its weights back.

What was learned lies beside it as safetensors, under the plain names of the parameters: everything of a
network of rows; of a language model the adapters, the head, or all, whatever learned. What did not learn is
not in it: it comes by its name from where it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from tg_workbench.engine import architectures, lora
from tg_workbench.engine.networks import Network, adapted
from tg_workbench.engine.specs import Architecture, LoraSpec, TargetScale
from tg_workbench.engine.trainer import Trainer
from tg_workbench.errors import CheckpointMismatch


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The name of a network, its shape, and its adapters."""

    model_ref: str
    architecture: Architecture | None = None
    lora: LoraSpec | None = None
    parameters: int | None = None
    """How many numbers the whole network has; told, never read."""

    @classmethod
    def of(cls, trainer: Trainer) -> Blueprint:
        """That of a trainer's network."""
        spec = trainer.spec
        numbers = sum(parameter.numel() for parameter in trainer.network.module.parameters())
        return cls(spec.model_ref, spec.architecture, spec.lora, numbers)

    def as_json(self) -> dict[str, Any]:
        """For the database: the shape flat beside the name."""
        shape = self.architecture
        scale = None if shape is None else shape.target_scale
        return {
            "model_ref": self.model_ref,
            "input_shape": None if shape is None else list(shape.input_shape),
            "output_classes": None if shape is None else shape.output_size,
            "hidden_sizes": None if shape is None else list(shape.hidden_sizes),
            **({} if scale is None else {"target_scale": asdict(scale)}),
            "parameters": self.parameters,
            "lora": None
            if self.lora is None
            else {**asdict(self.lora), "target_modules": list(self.lora.target_modules)},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Blueprint:
        """From the database. Members that it does not know say nothing."""
        shape, adapters, scale = None, data.get("lora"), data.get("target_scale")
        if data.get("input_shape") is not None:
            shape = Architecture(
                tuple(data["input_shape"]),
                data["output_classes"],
                tuple(data.get("hidden_sizes") or ()),
                TargetScale(**scale) if scale else None,
            )
        if adapters:
            adapters = LoraSpec(**{**adapters, "target_modules": tuple(adapters["target_modules"])})
        return cls(data["model_ref"], shape, adapters or None, data.get("parameters"))

    def opened(self, weights: bytes, cache_folder: Path) -> Network:
        """The network with these weights, ready to answer: on the CPU, without dropout, and learning nothing.

        Raises CheckpointMismatch where they are not its own, and what building it raises.
        """
        network = architectures.build(self.model_ref, self.architecture, cache_folder)
        module = network.module
        if self.lora is not None:
            lora.attach(adapted(network), self.lora)
        learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
        try:
            found = load(weights)
        except SafetensorError as refusal:
            raise CheckpointMismatch("these weights are not a safetensors file") from refusal
        if found.keys() != learned.keys():
            raise CheckpointMismatch("the weights hold other parameters than this network has")
        with torch.no_grad():
            for name, parameter in learned.items():
                if found[name].shape != parameter.shape:
                    raise CheckpointMismatch(f"{name} has another shape in the weights than in this network")
                parameter.copy_(found[name])
        module.requires_grad_(False).eval()
        return network


def weights_of(trainer: Trainer) -> bytes:
    """What a trainer learned, as others see it: safetensors under the plain names of the parameters."""
    with trainer.looking() as network:
        kept = {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in network.module.named_parameters()
            if parameter.requires_grad
        }
    return save(kept, {"format": "pt"})
