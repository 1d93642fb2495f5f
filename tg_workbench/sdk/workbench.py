"""The workbench: the one object a notebook starts from."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tg_workbench.errors import InvalidRequest
from tg_workbench.sdk.accounts import Account, Accounts
from tg_workbench.sdk.address import Address
from tg_workbench.sdk.alerts import Alerts
from tg_workbench.sdk.api_keys import ApiKeys
from tg_workbench.sdk.audit_log import AuditLog
from tg_workbench.sdk.audits import Audit
from tg_workbench.sdk.catalogue import Datasets
from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.dataset_names import dataset_id_of
from tg_workbench.sdk.datasets import Dataset
from tg_workbench.sdk.devices import Devices
from tg_workbench.sdk.federation import Federation
from tg_workbench.sdk.futures import Future
from tg_workbench.sdk.jobs import Jobs
from tg_workbench.sdk.logs import LogLine
from tg_workbench.sdk.moments import Moment, as_iso
from tg_workbench.sdk.notifications import Notifications
from tg_workbench.sdk.organizations import Organizations
from tg_workbench.sdk.plans import (
    Architecture,
    ClientPlan,
    LoRA,
    Optimizer,
    Privacy,
    chosen_lora,
    chosen_optimizer,
    chosen_privacy,
)
from tg_workbench.sdk.privacy_plans import PrivacyPlan
from tg_workbench.sdk.registry import Models
from tg_workbench.sdk.services import Services
from tg_workbench.sdk.training_clients import TrainingClient, TrainingClients
from tg_workbench.sdk.users import Users
from tg_workbench.sdk.values import RESULTS, ClientView, Ledger, Value
from tg_workbench.sdk.webhooks import Webhooks

PLAN_SECONDS = 90.0


class Workbench:
    """A workbench. In a notebook `Workbench()` is enough: it finds its socket and key in the environment.

    Elsewhere give `base_url` and `api_key`, or set TG_BASE_URL and TG_API_KEY; or give `base_url` alone, and
    `login`, which comes before a key for as long as it lasts. `timeout` is how long a call
    is tried again while the workbench does not answer. Safe to share between threads.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        socket: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Asks nobody yet. Raises CallFailed, saying how to start one, when nothing names a workbench."""
        address = Address.find(base_url, api_key, socket=socket)
        self._connection = Connection(address, patience=timeout)
        self.training_clients = TrainingClients(self._connection)
        self.datasets = Datasets(self._connection)
        self.jobs = Jobs(self._connection)
        self.models = Models(self._connection)
        self.services = Services(self._connection)
        self.devices = Devices(self._connection)
        self.federation = Federation(self._connection)
        self.notifications = Notifications(self._connection)
        self.api_keys = ApiKeys(self._connection)
        self.webhooks = Webhooks(self._connection)
        self.organizations = Organizations(self._connection)
        self.users = Users(self._connection)
        self.alerts = Alerts(self._connection)
        self.audit_log = AuditLog(self._connection)
        self._accounts = Accounts(self._connection)

    # ------------------------------------------------------------------------- who is asking
    def register(
        self,
        username: str,
        email: str,
        password: str,
        *,
        full_name: str | None = None,
        invitation_token: str | None = None,
    ) -> Account:
        """Make yourself an account, in an organisation of your own or where the invitation leads.

        `login` comes after it. Raises AccountTaken, PasswordUnfit, InvitationInvalid, RegistrationClosed.
        """
        applicant = {
            "username": username,
            "email": email,
            "password": password,
            "full_name": full_name,
            "invitation_token": invitation_token,
        }
        return self._accounts.register(applicant)

    def login(self, login: str, password: str, *, organization_id: str | None = None) -> Workbench:
        """Sign in by user name or e-mail address, and be that person from here on, in every thread.

        The session goes on by itself until `logout`; the password is not kept. Returns this Workbench. Raises
        WrongPassword, and Refused while somebody else is signed in with it.
        """
        self._accounts.sign_in(login, password, organization_id)
        return self

    def logout(self) -> None:
        """End the session. What was here before it is back: the API key, or nothing."""
        self._accounts.sign_out()

    def logout_everywhere(self) -> int:
        """End every session that you have, on every device; how many that were. API keys stay."""
        return self._accounts.sign_out_everywhere()

    def me(self) -> Account:
        """Who you are to the workbench now, and what you may do. Raises Unauthenticated."""
        return self._accounts.me()

    # ------------------------------------------------------------------------- training

    def create_training_client(
        self,
        model_ref: str,
        *,
        dataset: Dataset | str | None = None,
        architecture: Architecture | Mapping[str, Any] | None = None,
        lora: LoRA | None = None,
        lora_rank: int | None = None,
        optimizer: str | Optimizer = "adamw",
        learning_rate: float | None = None,
        batch_size: int | None = None,
        max_steps: int | None = None,
        private: bool | None = None,
        privacy: Privacy | None = None,
        target_epsilon: float | None = None,
        delta: float | None = None,
        noise_multiplier: float | None = None,
        max_grad_norm: float | None = None,
        gradient_accumulation_steps: int | None = None,
        loss: str | None = None,
        gradient_checkpointing: bool = False,
        precision: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        audit_canaries: int | None = None,
    ) -> TrainingClient:
        """Put a model on the workbench and return at once; its worker builds it meanwhile.

        `dataset` is given whole, by its id, or by its name: "ward" (the newest version), "ward:2".
        On a protected dataset it is private (ε = 3) when nothing is said; rows of your own are private only
        when you ask: `private=True`, `target_epsilon=…` or `privacy=Privacy(…)`. With `audit_canaries` so
        many made-up examples stand beside the dataset, half of them learned: `wb.audit(client, "canaries")`
        asks later how well that shows. The ε of real rows stays true. Raises UnknownModel,
        InvalidRequest, DatasetNotFound, and PrivacyRefused for `private=False` on protected data.
        """
        numbers = {
            "target_epsilon": target_epsilon,
            "delta": delta,
            "noise_multiplier": noise_multiplier,
            "max_grad_norm": max_grad_norm,
        }
        plan = ClientPlan(
            model_ref=model_ref,
            dataset_id=dataset_id_of(dataset, self._connection),
            architecture=architecture,
            lora=chosen_lora(lora, lora_rank),
            optimizer=chosen_optimizer(optimizer, learning_rate),
            batch_size=batch_size,
            max_steps=max_steps,
            privacy=chosen_privacy(private, privacy, numbers),
            gradient_accumulation_steps=gradient_accumulation_steps,
            loss=loss,
            gradient_checkpointing=gradient_checkpointing,
            precision=precision,
            metadata=metadata,
            audit_canaries=audit_canaries,
        )
        answer = self._connection.post("/api/v1/training_clients", Body.of_json(plan.as_wire()))
        return TrainingClient(self._connection, ClientView.from_wire(answer))

    def plan_privacy(
        self,
        *,
        dataset: Dataset | str | None = None,
        size: int | None = None,
        batch_size: int = 8,
        steps: int | None = None,
        epochs: float | None = None,
        target_epsilon: float | None = None,
        noise_multiplier: float | None = None,
        delta: float | None = None,
        accountant: str = "pld",
        truncated_batch_size: int | None = None,
    ) -> PrivacyPlan:
        """What a run would cost, on a dataset or on so many examples. Nothing is spent by asking.

        Give `target_epsilon` and the noise is found, or `noise_multiplier`; and `steps` or `epochs`. Raises
        InvalidRequest, DatasetNotFound.
        """
        asked = {
            "dataset_id": dataset_id_of(dataset, self._connection),
            "size": size,
            "batch_size": batch_size,
            "steps": steps,
            "epochs": epochs,
            "target_epsilon": target_epsilon,
            "noise_multiplier": noise_multiplier,
            "delta": delta,
            "accountant": accountant,
            "truncated_batch_size": truncated_batch_size,
        }
        body = Body.of_json({name: value for name, value in asked.items() if value is not None})
        answer = self._connection.post("/workbench/v1/plans", body, answer_seconds=PLAN_SECONDS)
        return PrivacyPlan.from_wire(answer)

    def audit(
        self,
        client: TrainingClient | str,
        method: str = "mechanism",
        *,
        canaries: int | None = None,
        steps: int | None = None,
        twins: int | None = None,
        confidence: float = 0.95,
    ) -> Audit:
        """How much a training client reveals at least, beside the ε that was promised.

        Waits for it; `await client.audit(…)` takes the same and does not hold the kernel. As the last line of
        a cell the answer draws both numbers and their gap. The bound is no estimate of ε. Raises
        InvalidRequest for what the client cannot be audited by, Refused while a gradient waits.
        """
        audited = self.attach(client) if isinstance(client, str) else client
        return audited.audit(
            method, canaries=canaries, steps=steps, twins=twins, confidence=confidence
        ).result()

    def attach(self, client_id: str) -> TrainingClient:
        """The training client with this id: after a kernel restart, or from another notebook.

        Raises TrainingClientNotFound.
        """
        return self.training_clients.get(client_id)

    def future(self, future_id: str) -> Future[Any]:
        """The future with this id, also one of a kernel that has ended. Raises FutureNotFound."""
        record = self._connection.get(f"/api/v1/futures/{future_id}")
        kinds: dict[str, type[Value]] = {**RESULTS, "audit": Audit}
        kind = kinds.get(str(record.get("operation")))
        return Future(self._connection, record, dict if kind is None else kind.from_wire)

    def ledger(
        self,
        *,
        dataset: Dataset | str | None = None,
        client: TrainingClient | str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> Ledger:
        """Every noisy release of a dataset or a training client, in order, and the ε they add up to.

        Raises InvalidRequest unless exactly one of them is named.
        """
        if (dataset is None) == (client is None):
            raise InvalidRequest("name a dataset or a client, one of them")
        client_id = client.id if isinstance(client, TrainingClient) else client
        whose = {"dataset_id": dataset_id_of(dataset, self._connection), "training_client_id": client_id}
        page = self._connection.get("/workbench/v1/ledger", {**whose, "after": after, "limit": limit})
        return Ledger.from_wire(page)

    def health(self) -> dict[str, Any]:
        """How the workbench is. Asks once: raises CallFailed at once when it does not answer."""
        return self._connection.look("/health")

    def status(self) -> dict[str, Any]:
        """How it does: response time in milliseconds, memory and processor in percent."""
        return self._connection.get("/api/v1/status")

    def metrics(self) -> str:
        """Its metrics, as Prometheus reads them. Raises PermissionDenied without the scope `monitoring`."""
        return self._connection.download("/api/v1/monitoring/metrics").decode()

    def logs(
        self,
        *,
        level: str | None = None,
        component: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 100,
    ) -> list[LogLine]:
        """What it wrote down, newest first; `level` is info, warning or error.

        Only the workbench's own key reads them, for they are of the whole machine. Raises PermissionDenied.
        """
        asked = {"level": level, "component": component, "since": as_iso(since), "until": as_iso(until)}
        answer = self._connection.get("/api/v1/monitoring/logs", {**asked, "limit": limit})
        return [LogLine.from_wire(line) for line in answer.get("logs", [])]

    def close(self) -> None:
        """Close its connections. What runs on the workbench goes on."""
        self._connection.close()

    def __enter__(self) -> Workbench:
        """For `with`: closed at its end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Where it answers, and who is signed in; never a key or a token."""
        session = self._accounts.session
        who = "" if session is None else f", {session.username}{' (ended)' if session.over else ''}"
        return f"<Workbench at {self._connection.address}{who}>"
