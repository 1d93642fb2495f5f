"""Telling: what a job says of itself: its lines, where it stands, and what it and its model are worth.

Pitfalls: of a protected dataset every loss, accuracy and `val_…` is raw. The curator is told, with a note;
neither a line of the log nor anything that leaves the machine holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tg_workbench.training.histories import History, epochs_of

RAW_NOTE = "loss, accuracy and val_… are of protected rows and not covered by ε: for the curator only"
MEASURES = ("accuracy", "precision", "recall", "f1", "mae", "rmse", "r2", "perplexity", "loss")


@dataclass(frozen=True, slots=True)
class Telling:
    """What may be told of one job."""

    epochs: int
    total_steps: int
    is_protected: bool
    holds_out: bool
    """Whether rows are held out to measure on."""

    @property
    def note(self) -> str | None:
        """What ε does not cover."""
        return RAW_NOTE if self.is_protected else None

    def line(self, epoch: int, values: Mapping[str, Any]) -> str:
        """The document's very line, and what there is besides; of a protected dataset nothing raw."""
        loss = values.get("noisy_loss") if self.is_protected else values["loss"]
        said = "" if loss is None else f", Loss: {loss:.3f}"
        if not self.is_protected and values.get("val_loss") is not None:
            said += f", Val loss: {values['val_loss']:.3f}"
        if not self.is_protected and values.get("val_accuracy") is not None:
            said += f", Val accuracy: {values['val_accuracy']:.3f}"
        if values["epsilon"] is not None:
            said += f", ε: {values['epsilon']:.3f}"
        return f"Epoch {epoch}/{self.epochs}{said}"

    def progress(
        self, history: History, *, step: int, losses: list[float], epsilon: float | None
    ) -> dict[str, Any]:
        """Where the job stands. `losses`: of the epoch it is in; `epsilon`: what is spent until now."""
        last = {name: values[-1] for name, values in history.items() if values}
        if losses:
            last["loss"] = sum(losses) / len(losses)
        last["epsilon"] = epsilon
        return {
            "epoch": epochs_of(history),
            "total_epochs": self.epochs,
            "step": step,
            "total_steps": self.total_steps,
            "metrics": last,
            "metrics_note": self.note,
        }

    def public_accuracy(self, history: History) -> float | None:
        """What may be told outside: of a protected dataset nothing raw."""
        if self.is_protected:
            return None
        seen = [*history["val_accuracy"][-1:], *history["accuracy"][-1:]]
        return next((value for value in seen if value is not None), None)

    def final(self, found: Mapping[str, Any], epsilon: float | None) -> dict[str, Any]:
        """What the job ends with, of what the last look has found."""
        return {
            "train_loss": found["train_loss"],
            "train_accuracy": found.get("accuracy"),
            "val_loss": found.get("val_loss"),
            "val_accuracy": found.get("val_accuracy"),
            **{name: value for name, value in found.items() if name.startswith("val_")},
            "epsilon": epsilon,
            "metrics_note": self.note,
        }

    def performance(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """What the model is worth: on the rows held out, or where there are none on those it learned from."""
        prefix = "val_" if self.holds_out else ""
        told = {name: found.get(prefix + name) for name in MEASURES}
        told["loss"] = found["val_loss" if prefix else "train_loss"]
        about: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
        about["measured_on"] = "held-out rows" if prefix else "rows it learned from"
        return about | ({"metrics_note": self.note} if self.note else {})
