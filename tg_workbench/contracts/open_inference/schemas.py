"""The protocol's bodies and answers. Tensors are read by the worker that uses them, and not here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator
from pydantic_core import to_json

from tg_workbench import __version__
from tg_workbench.contracts.inference import Answering
from tg_workbench.contracts.tg_tinker.schemas import Form
from tg_workbench.models import Model
from tg_workbench.models.serving import Frame

SETTINGS = ("max_tokens", "temperature", "top_p", "top_k", "stop")
EXTENSIONS = ["binary_tensor_data", "classification", "generate"]


class ServerMetadata(BaseModel):
    """Who answers."""

    name: str = "tg-workbench"
    version: str = __version__
    extensions: list[str] = EXTENSIONS


class TensorMetadata(BaseModel):
    """What goes in, or comes out; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model, as the protocol tells of it."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]

    @classmethod
    def of(cls, model: Model, name: str) -> ModelMetadata:
        """A model of the registry, under the name that it was asked by."""
        texts = model.task == "language_modeling"
        return cls(
            name=name,
            versions=[str(model.version)],
            platform="pytorch" if model.onnx_blob is None else "onnxruntime_onnx",
            inputs=[_text("text_input") if texts else _input(model)],
            outputs=[_text("text_output") if texts else _output(model)],
        )


Stop = Annotated[str, Field(min_length=1, max_length=200)]


class Generate(Form):
    """What to write on from, and how: said beside the text, or in `parameters`, as Triton's clients do."""

    text_input: str = Field(min_length=1, max_length=100_000)
    max_tokens: int = Field(default=64, ge=1, le=4096)
    temperature: float = Field(default=0.0, ge=0.0, le=100.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=-1, ge=-1, le=1_000_000)
    stop: list[Stop] = Field(default_factory=list, max_length=16)
    parameters: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _with_parameters(cls, asked: Any) -> Any:
        """What `parameters` say comes first."""
        inside = asked.get("parameters") if isinstance(asked, dict) else None
        if not isinstance(inside, dict):
            return asked
        return {**asked, **{name: inside[name] for name in SETTINGS if name in inside}}

    def as_question(self) -> dict[str, Any]:
        """The worker's words for it."""
        return self.model_dump(exclude={"parameters"})


class Generated(BaseModel):
    """What was written."""

    model_name: str
    model_version: str
    text_output: str

    @classmethod
    def of(cls, asked: Answering, answer: Frame) -> Generated:
        """A worker's answer."""
        version = str(asked.model.version)
        return cls(model_name=asked.name, model_version=version, text_output=answer.payload.decode())


async def events_of(asked: Answering, pieces: AsyncIterator[Frame]) -> AsyncIterator[bytes]:
    """Server-sent events, one for each piece; one with `error` is the last when the worker cannot go on."""
    async for piece in pieces:
        if "error" in piece.header:
            yield b"data: " + to_json({"error": piece.header["error"]["message"]}) + b"\n\n"
            return
        if piece.payload:
            yield b"data: " + Generated.of(asked, piece).model_dump_json().encode() + b"\n\n"


def _text(name: str) -> TensorMetadata:
    return TensorMetadata(name=name, datatype="BYTES", shape=[1])


def _input(model: Model) -> TensorMetadata:
    shape = model.architecture.get("input_shape") or [-1]
    return TensorMetadata(name="features", datatype="FP32", shape=[-1, *shape])


def _output(model: Model) -> TensorMetadata:
    outputs = model.architecture.get("output_classes") or model.architecture.get("output_size") or -1
    return TensorMetadata(name="scores", datatype="FP32", shape=[-1, outputs])
