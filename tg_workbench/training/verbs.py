"""Verbs: what a training client can be asked to do, and what it answers: one method per kind of operation.

Runs in the worker. Errors of ours end as a failed operation; the client stays as it was before.
"""

from __future__ import annotations

from typing import Any

from tg_workbench.engine.trainer import ForwardBackward
from tg_workbench.errors import InvalidRequest, PrivacyRefused, Refused
from tg_workbench.training.operating import NOT_SAVED, Operator
from tg_workbench.training.points import SAMPLED
from tg_workbench.training.provenance import Provenance
from tg_workbench.training.rows import Batch, request_of
from tg_workbench.training.tables import Artifact, Operation


class Verbs:
    """Each is named as its kind, reads what was sent, and has the operator do it."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator

    # ------------------------------------------------------------------------------- learning
    def forward_backward(self, operation: Operation, *, again: bool = False) -> dict[str, Any]:
        """Form and accumulate gradients; `again`, after a worker was lost, those that had been taken before.

        In sampled mode a call is a fresh Poisson draw, at most one a step. Raises BudgetExhausted for rows of
        somebody whose ε is spent.
        """
        request = request_of(operation)
        if "dataset_id" in request:
            outcome = self._learn_from_dataset(request["dataset_id"])
        else:
            outcome = self.operator.learn(self._own_rows(request.get("batch")), admitted=again)
        sampled = self.operator.plan is not None and self.operator.plan.mode == SAMPLED
        return {
            "loss": outcome.loss,
            "grad_norm": outcome.grad_norm,
            "tokens_processed": None if sampled else outcome.tokens,
            "num_examples": None if sampled else outcome.num_examples,
            "dp_metrics": None,
        }

    def optim_step(self, operation: Operation) -> dict[str, Any]:
        """Charge, draw noise, apply.

        Raises NoGradient, BudgetExhausted, PrivacyRefused: nothing was spent.
        """
        request = request_of(operation)
        if self.operator.plan is not None and not request.get("apply_dp_noise", True):
            raise PrivacyRefused(
                "this client trains with differential privacy: apply_dp_noise cannot be false"
            )
        taken = self.operator.apply(operation, learning_rate=request.get("learning_rate"))
        return {
            "step": taken.step,
            "learning_rate": taken.learning_rate,
            "dp_metrics": self.operator.dp_metrics,
        }

    def _learn_from_dataset(self, dataset_id: str) -> ForwardBackward:
        if self.operator.client.dataset_id != dataset_id:
            raise PrivacyRefused(
                "a training client draws batches only from the dataset it was created with: its privacy plan "
                "is made for that one. Create a client with this dataset_id"
            )
        return self.operator.learn_sampled()

    def _own_rows(self, batch: Any) -> Batch:
        if self.operator.plan is not None and self.operator.plan.mode == SAMPLED:
            raise PrivacyRefused(
                "this client trains on batches that the server draws (mode: sampled): send its dataset_id, "
                "or create a client without a dataset for rows of your own"
            )
        if not isinstance(batch, dict):
            raise InvalidRequest("send a 'batch' or a 'dataset_id'")
        if self.operator.plan is None:
            self.operator.provenance = self.operator.provenance.joined(Provenance(unprotected=True))
        return batch

    # ------------------------------------------------------------------------------- looking
    def sample(self, operation: Operation) -> dict[str, Any]:
        """Write text. A private model's text is post-processing: it costs nothing."""
        request = request_of(operation)
        completions = self.operator.trainer.sample(
            request["prompts"],
            max_tokens=request["max_tokens"],
            temperature=request["temperature"],
            top_p=request["top_p"],
            top_k=request["top_k"],
            stop_sequences=request["stop_sequences"],
            should_stop=self.operator.should_stop,
        )
        settings = {name: value for name, value in request.items() if name != "prompts"}
        samples = [
            {
                "prompt": completion.prompt,
                "completion": completion.completion,
                "tokens_generated": completion.tokens_generated,
                "finish_reason": completion.finish_reason,
            }
            for completion in completions
        ]
        return {"samples": samples, "model_step": self.operator.step, "sampling_config": settings}

    def evaluate(self, operation: Operation) -> dict[str, Any]:
        """Loss and accuracy on a public dataset or the caller's rows.

        Raises PrivacyRefused for protected sets.
        """
        request = request_of(operation)
        batch, source = request.get("batch"), "caller"
        if "dataset_id" in request:
            dataset, rows = self.operator.dataset_rows(request["dataset_id"])
            if dataset.privacy == "protected":
                raise PrivacyRefused(
                    "evaluating on a protected dataset is not private: use a public or held-out one"
                )
            batch, source = rows.take(slice(None)), "public"
        if not isinstance(batch, dict):
            raise InvalidRequest("send a 'batch' or a 'dataset_id'")
        outcome = self.operator.trainer.evaluate(batch, should_stop=self.operator.should_stop)
        return {
            "loss": outcome.loss,
            "accuracy": outcome.accuracy,
            "num_examples": outcome.num_examples,
            "source": source,
        }

    def predict(self, operation: Operation) -> dict[str, Any]:
        """What the model says of the caller's rows."""
        request = request_of(operation)
        batch = request.get("batch") or request
        return {"predictions": self.operator.trainer.predict(batch, should_stop=self.operator.should_stop)}

    # ------------------------------------------------------------------------------- state
    def save_state(self, operation: Operation) -> dict[str, Any]:
        """Store a checkpoint. Raises Refused in the middle of a step, StorageFull."""
        request = request_of(operation)
        if self.operator.trainer.pending:
            raise Refused("a checkpoint is taken between steps: call optim_step first, then save_state")
        artifact = self.operator.save(
            include_optimizer=request.get("include_optimizer", True), details=request.get("metadata") or {}
        )
        if not request.get("include_optimizer", True):
            # A worker that is lost must not go on without its optimizer's state.
            self.operator.saved_step = NOT_SAVED
            self.operator.autosave(force=True)
        return artifact_view(artifact)

    def load_state(self, operation: Operation) -> dict[str, Any]:
        """Take up a checkpoint. Raises CheckpointInvalid, PrivacyRefused."""
        artifact = self.operator.load(request_of(operation)["artifact_id"])
        return {
            "training_client_id": self.operator.client.id,
            "loaded_artifact_id": artifact.id,
            "step": self.operator.step,
            "status": "ready",
        }


def artifact_view(artifact: Artifact) -> dict[str, Any]:
    """An artifact as `save_state` answers it."""
    return {
        "artifact_id": artifact.id,
        "artifact_type": "checkpoint",
        "size_bytes": artifact.size_bytes,
        "encryption": {"algorithm": "AES-256-GCM", "key_id": artifact.key_id},
        "content_hash": artifact.content_hash,
        "metadata": artifact.details,
        "created_at": artifact.created_at,
        "step": artifact.step,
        "dp_metrics": artifact.dp_metrics,
    }
