"""What was learned, as whoever trained it hands it over: bytes, and what is said of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from tg_workbench.errors import InvalidRequest

NO_GUARANTEE: Mapping[str, Any] = {"guarantee": "none"}
SHOWN = {
    "linear": "Linear",
    "logistic": "Logistic",
    "mlp": "MLP",
    "cnn": "CNN",
    "resnet18": "ResNet18",
    "resnet50": "ResNet50",
    "tiny-llama": "TinyLlama",
    "smollm2-135m": "SmolLM2-135M",
}
"""What types of models are called in names that nobody gave."""
LONGEST_NAME = 200
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A trained network. `weights` are safetensors bytes under its plain parameter names.

    Raises InvalidRequest for a name that cannot be one.
    """

    owner_id: str
    tenant_id: str
    model_ref: str
    task: str
    weights: bytes = field(repr=False)
    onnx: bytes | None = field(default=None, repr=False)
    hub: Mapping[str, bytes] | None = field(default=None, repr=False)
    """The small files of a Hugging Face folder, a tokenizer's for one: all but the weights. With an
    `adapter_config.json` it is a folder of peft's. None: there is no such folder for this network."""
    name: str | None = None
    job_id: str | None = None
    client_id: str | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    encoding: Mapping[str, Any] | None = None
    performance: Mapping[str, Any] = field(default_factory=dict)
    training_config: Mapping[str, Any] = field(default_factory=dict)
    dataset_id: str | None = None
    dataset_version: int | None = None
    privacy: Mapping[str, Any] = field(default_factory=lambda: NO_GUARANTEE)
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name is not None and not 1 <= len(self.name.strip()) <= LONGEST_NAME:
            raise InvalidRequest(f"a model's name has 1 to {LONGEST_NAME} characters")
        if not all(FILE_NAME.fullmatch(name) for name in self.hub or ()):
            raise InvalidRequest("the files beside weights have names, and no folders")

    @property
    def family(self) -> str:
        """What all versions of it are called."""
        if self.name is not None:
            return self.name.strip()
        return SHOWN.get(self.model_ref) or PurePath(self.model_ref).name[:LONGEST_NAME] or "Model"

    def name_of(self, version: int) -> str:
        """What one version is called."""
        return self.family if self.name is not None else f"{self.family}_v{version}"

    def told(self) -> dict[str, Any]:
        """What is said of it, as JSON can hold it: a number that is not finite is told as null."""
        said = {
            "architecture": self.architecture,
            "class_names": self.class_names,
            "encoding": self.encoding,
            "performance": self.performance,
            "training_config": self.training_config,
            "privacy": self.privacy,
            "lineage": self.lineage,
        }
        plain: dict[str, Any] = json.loads(json.dumps(said, default=dict), parse_constant=lambda _: None)
        return plain
