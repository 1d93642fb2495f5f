"""A model at a glance: what it is, how good, what its privacy cost, where it comes from, what it reads.

Pitfalls: figures that were measured on protected rows are not covered by ε. They are for the data's curator;
on a page for others use `published=True`, which sends them only when the data are known to be public.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tg_widgets import assets
from tg_widgets.budget_gauge import rounded_up, scientific
from tg_widgets.live_card import LiveCard
from tg_workbench.errors import NotFound
from tg_workbench.sdk import Dataset, Model, Workbench
from tg_workbench.sdk.catalogue import Datasets
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.registry import Models

SECONDS_BETWEEN_LOOKS = 15.0
MOST_VERSIONS, MOST_INPUTS, MOST_CLASSES, MOST_VALUES = 20, 200, 100, 12
NOT_COVERED = "for you alone: not covered by ε"
MEASURES = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1_score": "F1",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "perplexity": "Perplexity",
    "loss": "Loss",
}
SHARES = ("accuracy", "precision", "recall", "f1_score")
_RELATIONS = {"add_or_remove_one": "add or remove one", "replace_one": "replace one"}
_MODES = {"sampled": "server-sampled", "client_batches": "caller's batches"}


class ModelCard(LiveCard):
    """Shows a model, given whole, or by its id or name as `wb.models[…]` takes it.

    `published` shows nothing that ε does not cover.
    """

    _esm = assets.script("model_card")
    _css = assets.style("live_card.css", "model_card.css")

    def __init__(
        self, model: Model | str, workbench: Workbench | None = None, *, published: bool = False
    ) -> None:
        self.published = published
        self._key = model if isinstance(model, str) else model.id
        self._model = None if isinstance(model, str) else model
        self._dataset: Dataset | None = None
        self._versions: Sequence[Model] = ()
        super().__init__(workbench if workbench is not None or isinstance(model, str) else model)

    @property
    def model(self) -> Model | None:
        """The model as it was last seen."""
        return self._model

    def _look(self, connection: Connection) -> float:
        model = Models(connection)[self._key]
        versions = model.versions()
        dataset = _dataset_of(model, connection)
        with self._lock:
            self._key = model.id  # a name means another version one day; this card is about this one
            self._model, self._versions, self._dataset = model, versions, dataset
        return SECONDS_BETWEEN_LOOKS

    def _face(self) -> Mapping[str, Any]:
        if self._model is None:
            return {"id": self._key}
        return face_of(self._model, self._dataset, self._versions, published=self.published)


def face_of(
    model: Model, dataset: Dataset | None, versions: Sequence[Model] = (), *, published: bool = False
) -> dict[str, Any]:
    """What a card shows of a model. What has not only learned data known to be public counts as protected."""
    is_open = dataset is not None and dataset.privacy == "public" and not is_private(model)
    is_shown = is_open or not published
    return {
        "id": model.id,
        "name": model.family or model.name,
        "version": model.version,
        "aliases": list(model.aliases),
        "type": model.model_type,
        "created_at": model.created_at,
        "architecture": _architecture(model),
        "performance": _performance(model.performance) if is_shown else [],
        "measured_on": str(model.performance.get("measured_on") or "") if is_shown else "",
        "note": "" if published or is_open else NOT_COVERED,
        "is_hidden": not is_shown,
        "privacy": _privacy(model),
        "meaning": model.meaning,
        "lineage": _lineage(model, dataset),
        "versions": [
            _version(each, is_shown=not published or (is_open and _is_alike(each, model)))
            for each in versions[:MOST_VERSIONS]
        ],
        "inputs": _inputs(model),
        "more_inputs": max(0, len(model.inputs or ()) - MOST_INPUTS),
        "classes": list(model.class_names or ())[:MOST_CLASSES],
        "more_classes": max(0, len(model.class_names or ()) - MOST_CLASSES),
        "export": "" if published else f'wb.models["{model.id}"].export("a-folder")',
    }


def is_private(model: Model) -> bool:
    """Whether it learned rows whose figures ε does not cover."""
    return bool(model.privacy.private or model.performance_note or model.performance.get("metrics_note"))


def _dataset_of(model: Model, connection: Connection) -> Dataset | None:
    """What it learned from, if that is still there."""
    if model.dataset_id is None:
        return None
    try:
        return Datasets(connection).get(model.dataset_id)
    except NotFound:
        return None


def _architecture(model: Model) -> list[list[str]]:
    told, lora = model.architecture, model.architecture.get("lora")
    shape, hidden, size = told.get("input_shape"), told.get("hidden_sizes"), told.get("parameters")
    pairs = [
        ["Type", model.model_type],
        ["Task", model.task.replace("_", " ")],
        ["Parameters", f"{size:,}" if isinstance(size, int) else ""],
        ["Input", " × ".join(map(str, shape)) if shape else ""],
        ["Hidden layers", ", ".join(map(str, hidden)) if hidden else ""],
        ["Outputs", str(told.get("output_classes") or "")],
        ["LoRA", f"rank {lora.get('rank')}" if isinstance(lora, Mapping) else ""],
        ["Forms", "safetensors, ONNX" if model.has_onnx else "safetensors"],
    ]
    return [pair for pair in pairs if pair[1]]


def _performance(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name, value, and how much of the best there can be."""
    told = []
    for name, label in MEASURES.items():
        value = figures.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            is_share = name in SHARES
            text = f"{value * 100:.1f} %" if is_share else f"{value:.4g}"
            told.append({"label": label, "text": text, "share": float(value) if is_share else None})
    return told


def _privacy(model: Model) -> dict[str, Any]:
    """The promise, whole: a bare ε means nothing."""
    view = model.privacy
    if not view.private:
        return {"kind": "none"}
    noise = view.noise_multiplier
    facts = [
        ["δ", scientific(view.delta), "The chance that the bound ε does not hold."],
        ["Unit", f"one {view.unit}", "What is protected: all that one of them changed."],
        ["Relation", _RELATIONS.get(view.relation, view.relation), "How two neighbouring data sets differ."],
        ["Accountant", (view.accountant or "–").upper(), "How the steps are added up."],
        ["Mode", _MODES.get(view.mode or "", view.mode or "–"), "Who draws the batches."],
        ["Noise σ", "–" if noise is None else f"{noise:.3g}", "Noise multiplier."],
    ]
    target = view.target_epsilon
    spent = view.spent_epsilon
    return {
        "kind": "spent",
        "spent": rounded_up(spent),
        "target": "" if target is None else f"{target:g}",
        "share": min(1.0, (spent or 0.0) / target) if target else None,
        "facts": facts,
    }


def _lineage(model: Model, dataset: Dataset | None) -> list[list[str]]:
    version = "" if model.dataset_version is None else f", version {model.dataset_version}"
    name = model.dataset_id if dataset is None else f"{dataset.name}{version}"
    others = [each for each in model.lineage if each != model.training_client_id]
    pairs = [
        ["Data set", name or ""],
        ["Job", model.job_id or ""],
        ["Training client", model.training_client_id or ""],
        ["Went on from", ", ".join(others)],
    ]
    return [pair for pair in pairs if pair[1]]


def _is_alike(version: Model, model: Model) -> bool:
    """Whether a version learned the same data, and without privacy."""
    return version.dataset_id == model.dataset_id and not is_private(version)


def _version(model: Model, *, is_shown: bool) -> dict[str, Any]:
    """One line about a version."""
    figures = _performance(model.performance) if is_shown else []
    cost = f"ε {rounded_up(model.privacy.spent_epsilon)}" if model.privacy.private else "no guarantee"
    return {
        "id": model.id,
        "version": model.version,
        "aliases": list(model.aliases),
        "figure": f"{figures[0]['label']} {figures[0]['text']}" if figures else "",
        "cost": cost,
        "created_at": model.created_at,
    }


def _inputs(model: Model) -> list[dict[str, str]]:
    """Each column that a row to predict has, and how it is read."""
    if model.columns is None:
        return [{"name": name, "type": "", "holds": ""} for name in (model.inputs or ())[:MOST_INPUTS]]
    return [
        {"name": str(column.get("name")), "type": str(column.get("type") or ""), "holds": _holds(column)}
        for column in model.columns[:MOST_INPUTS]
    ]


def _holds(column: Mapping[str, Any]) -> str:
    values, low, high = column.get("values"), column.get("low"), column.get("high")
    if values:
        named = ", ".join(map(str, values[:MOST_VALUES]))
        more = len(values) - MOST_VALUES
        return f"{named} and {more} more" if more > 0 else named
    return f"{low:.6g} to {high:.6g}" if low is not None and high is not None else ""
