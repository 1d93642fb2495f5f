"""A panel that drives a training client: create, train, pause, resume, save, load, terminate.

It follows whatever happens to its client, whoever did it: a cell, another tab, another kernel. Everything it
asks of the workbench it asks from threads, so the kernel stays free and Pause answers while a run goes on.
Showing it starts nothing; without a workbench it says so and looks again.

Pitfalls: the raw loss of protected data is not covered by ε. It is for the data's curator; on a page for
others use `published=True`, which never sends it, and shows ε, steps and evaluations on public data. That is
about what is shown: who can log in to this Jupyter can ask the workbench for everything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import ipywidgets

from tg_widgets.budget_gauge import BudgetGauge
from tg_widgets.fields import positive, sentence, whole
from tg_widgets.live_curve import LiveCurve, Series
from tg_widgets.lookout import Lookout, Seen
from tg_widgets.pace import Pace
from tg_widgets.panel_part import PanelPart
from tg_widgets.standing import Standing
from tg_workbench.errors import InvalidRequest, PrivacyRefused, WorkbenchError
from tg_workbench.sdk import TrainingClient, Workbench
from tg_workbench.sdk.events import Event, Subscription
from tg_workbench.sdk.values import ClientView, Evaluation

_NOT_COVERED = "raw loss: not covered by ε"
_UNEXPECTED = "something unexpected went wrong; the kernel's log has the details"
_FOR_READERS = ("ready", "gone", "retry", "dismiss", "attach")
_DOING = {
    "create": "Creating a training client",
    "train": "Starting to train",
    "pause": "Pausing at the next step",
    "resume": "Resuming",
    "stop": "Stopping at the next step",
    "save": "Saving a checkpoint",
    "load": "Loading a checkpoint",
    "terminate": "Terminating",
    "attach": "Attaching",
}


class TrainingPanel(ipywidgets.VBox):  # type: ignore[misc]
    """Drives and follows one training client.

    `client` None: the newest one that is at work, or a form to create one. `workbench` None: the one this
    notebook runs on. `read_only` offers no buttons; `published` is for dashboards: read-only, and nothing
    that ε does not cover. `curve` and `gauge` are the widgets inside.
    """

    def __init__(
        self,
        client: TrainingClient | None = None,
        workbench: Workbench | None = None,
        *,
        read_only: bool = False,
        published: bool = False,
        title: str = "Training",
    ) -> None:
        self.read_only = read_only or published
        self.published = published
        self._title = title
        self._client: TrainingClient | None = None
        self._standing = Standing()
        self._privacy: Mapping[str, Any] | None = None
        self._doing: list[str] = []
        self._error = ""
        self._subscription: Subscription | None = None
        self._is_bound = client is not None
        self._views = 0  # on how many pages it is shown
        self._heard = 0  # the newest event it had heard of when it was last shown nowhere
        self._is_touched = False  # whether a form is being filled in, which nobody likes to lose
        self._went_back = False  # whether a checkpoint was loaded, after which a smaller step is news
        self._lock = threading.RLock()
        self._pace = Pace(self._show)
        self._lookout = Lookout(workbench, self._take_seen, clients_only=self.read_only)
        self.curve = LiveCurve(self._series(), title="Privacy spent" if published else "Learning")
        self.curve.empty_text = "Nothing has been learned yet: the curve starts with the first step."
        self.gauge = BudgetGauge()
        self._bar = PanelPart("bar", self._act)
        self._details = None if self.read_only else PanelPart("details", self._act)
        middle = ipywidgets.HBox([self.curve, self.gauge])
        middle.add_class("tgw-middle-row")
        super().__init__([self._bar, middle, *([self._details] if self._details is not None else [])])
        self.add_class("tgw-panel")
        self._show()
        if client is not None:
            self.follow(client)

    # ------------------------------------------------------------------------- in code
    @property
    def client(self) -> TrainingClient | None:
        """The training client it follows."""
        return self._client

    def follow(self, client: TrainingClient) -> None:
        """Follow another client, from its first event on."""
        view = client.view
        with self._lock:
            self._unfollow()
            self.curve.clear()
            self._client = client
            self._is_touched = self._went_back = False
            self._standing = Standing.of(view)
            self._privacy = asdict(view.privacy)
            self._note()
            self._lookout.client = client
            self._subscription = self._listen_to(client, after=0)
        self._pace.ask()
        self._lookout.look_now()

    def show_evaluation(
        self, evaluation: Evaluation, *, step: int | None = None, public: bool = False
    ) -> None:
        """Add an evaluation on public data to the curve: what a published page may show of quality.

        Of rows of your own nobody but you can know that they are public: say so by `public=True`. Raises
        PrivacyRefused otherwise.
        """
        if evaluation.source != "public" and not public:
            raise PrivacyRefused(
                "this evaluation was on rows of your own, and the curve calls it public: evaluate on a "
                "dataset that is registered as public, or say public=True"
            )
        at = self._standing.step if step is None else step
        if evaluation.loss is not None:
            self.curve.append("public_loss", at, evaluation.loss)

    def close(self) -> None:
        """Stop following and close the widgets. The client trains on."""
        self._lookout.close()
        self._unfollow()
        self._pace.stop()
        for widget in (self._bar, self._details, self.curve, self.gauge):
            if widget is not None:
                widget.close()
        super().close()

    # ------------------------------------------------------------------------- what happens
    def _take(self, client: TrainingClient, event: Event) -> None:
        """Take one event in; runs in the subscription's thread."""
        with self._lock:
            if client is not self._client:
                return
            self._standing = self._standing.after(event)
            if isinstance(event.data.get("privacy"), Mapping):
                self._privacy = event.data["privacy"]
            self._went_back = event.type != "progress" and (self._went_back or _loads(event))
            self._draw(event)
        self._pace.ask()
        if event.type in ("checkpoint", "operation"):
            self._lookout.look_now()

    def _take_view(self, view: ClientView, *, anew: bool = False) -> None:
        """Take in a view of the client; `anew` also when it went back to an earlier step."""
        is_known = view.training_client_id == self._standing.client_id
        # A view that was taken just before the checkpoint was loaded may come after the word of it: it is no
        # news, and the one that is still has to be let in.
        if anew or (self._went_back and is_known and view.step < self._standing.step):
            self._went_back = False
            self._standing = replace(self._standing, step=min(self._standing.step, view.step))
        if view.training_client_id == self._standing.client_id and view.step >= self._standing.step:
            self._standing = self._standing.with_view(view)
            self._privacy = asdict(view.privacy)
            self._note()

    def _note(self) -> None:
        private = self._privacy is not None and self._privacy.get("guarantee") != "none"
        self.curve.note = _NOT_COVERED if private and not self.published else ""

    def _draw(self, event: Event) -> None:
        data = event.data
        if event.type == "progress":
            points = data.get("points") or {}
            steps = points.get("step") or []
            for name in ("epsilon", "noisy_loss") if self.published else ("loss", "epsilon", "noisy_loss"):
                values = points.get(name) or []
                known = [(x, y) for x, y in zip(steps, values, strict=False) if y is not None]
                if known:
                    self.curve.append(name, [x for x, _ in known], [y for _, y in known])
        elif event.type == "checkpoint" and not data.get("automatic"):
            self._mark(data.get("step"), "checkpoint", "teal")
        elif event.type == "interrupted":
            self._mark(data.get("resumed_from"), "resumed", "red")

    def _mark(self, step: Any, label: str, tone: str) -> None:
        if step is not None:
            self.curve.marks = [*self.curve.marks[-99:], {"x": step, "label": label, "tone": tone}]

    def _take_seen(self, seen: Seen) -> None:
        """Take in what the lookout saw; runs in its thread."""
        newest = self._lookout.newest_at_work()
        if self._client is None and newest is not None and not self._is_bound and not self._is_touched:
            self.follow(newest)
        with self._lock:
            for client in seen.clients:
                self._take_view(client.view)
        self._pace.ask()

    # ------------------------------------------------------------------------- what is asked
    def _act(self, action: str, values: Mapping[str, Any]) -> None:
        """Do what the page asked for; returns at once."""
        if self.read_only and (action not in _FOR_READERS or (action == "attach" and self._is_bound)):
            return
        if action == "ready":
            self._views += 1
            self._wake()
        elif action == "gone":
            self._views = max(0, self._views - 1)
            if not self._views:
                self._rest()
        elif action == "retry":
            self._lookout.start()
            self._lookout.look_now()
        elif action == "dismiss":
            self._error = ""
            self._standing = replace(self._standing, notice="", alarm=False)
        elif action == "new":
            self._leave()
        elif action == "touched":
            self._is_touched = True
        elif action in _DOING and self._begin(action):
            work = threading.Thread(
                target=self._do, args=(action, values), daemon=True, name=f"tg-panel-{action}"
            )
            work.start()
        self._pace.ask()

    def _begin(self, action: str) -> bool:
        """Whether to do it: a second click on what is being done, or is done already, does nothing."""
        with self._lock:
            if action in self._doing:
                return False
            if action != "attach" and action not in self._actions(self._standing):
                return False
            self._doing.append(action)
            return True

    def _do(self, action: str, values: Mapping[str, Any]) -> None:
        """Ask the workbench, and say what came of it; runs in a thread of its own."""
        self._error = ""
        self._pace.ask()
        error = _UNEXPECTED
        try:
            self._ask(action, values)
            error = ""
        except WorkbenchError as failure:
            error = str(failure)
        finally:
            self._doing.remove(action)
            self._error = error and sentence(error)
            self._pace.ask()

    def _ask(self, action: str, values: Mapping[str, Any]) -> None:
        if action == "create":
            self.follow(self._lookout.workbench().create_training_client(**creation(values)))
            return
        if action == "attach":
            self.follow(self._lookout.workbench().attach(str(values.get("client_id"))))
            return
        client = self._client
        if client is None:
            raise InvalidRequest("create a training client first")
        asks: dict[str, Callable[[], object]] = {
            "train": lambda: client.train(steps=whole(values, "steps", "Steps"), progress=False),
            "pause": client.pause,
            "resume": client.resume,
            "stop": client.stop,
            "save": client.save_state,
            "load": lambda: client.load_state(str(values.get("artifact_id"))),
            "terminate": client.terminate,
        }
        answer = asks[action]()
        with self._lock:
            if isinstance(answer, ClientView):
                self._take_view(answer, anew=action == "load")
            elif action == "train" and client is self._client:
                self._standing = self._standing.asked_to_train()  # until its events say so themselves
        self._lookout.look_now()

    def _leave(self) -> None:
        """Show the form for a new client; those there are will not be followed unasked."""
        with self._lock:
            self._unfollow()
            self._client, self._standing, self._privacy = None, Standing(), None
            self._is_touched = False
            self._lookout.client = None
            self._lookout.ignore_present()
            self.curve.clear()
            self.curve.note = ""

    def _unfollow(self) -> None:
        if self._subscription is not None:
            self._subscription.close(timeout=0.0)
            self._subscription = None

    def _rest(self) -> None:
        """Shown nowhere any more, as after its cell ran again: ask nothing, until a page shows it again."""
        self._lookout.rest()
        with self._lock:
            if self._subscription is not None:
                self._heard = self._subscription.last_event_id
                self._unfollow()

    def _wake(self) -> None:
        self._lookout.start()
        with self._lock:
            client = self._client
            if client is not None and self._subscription is None:
                self._subscription = self._listen_to(client, self._heard)

    def _listen_to(self, client: TrainingClient, after: int) -> Subscription:
        return client.on_event(lambda event: self._take(client, event), after=after)

    # ------------------------------------------------------------------------- what is shown
    def _series(self) -> list[Series]:
        loss = Series("loss", "Loss")
        epsilon = Series("epsilon", "ε spent", "right", digits=2, round_up=True)
        shown = [
            epsilon,
            Series("noisy_loss", "Loss with noise"),
            Series("public_loss", "Loss on public data"),
        ]
        return shown if self.published else [loss, *shown]

    def _show(self) -> None:
        with self._lock:
            standing, seen = self._standing, self._lookout.seen
            connection, problem = self._connection(seen)
            self.gauge.show(self._privacy)
            now = {
                "title": self._title,
                "read_only": self.read_only,
                "bound": self._is_bound,
                "connection": connection,
                "connection_text": sentence(problem) if problem else "",
                "actions": self._actions(standing),
                "doing": f"{_DOING[self._doing[-1]]} …" if self._doing else "",
                "error": self._error,
                **self._shown_standing(standing),
            }
            self._bar.now = now
            self._bar.lists = {"clients": [] if self.published else seen.client_rows()}
            rare = ("connection", "actions", "client_id", "model_ref", "status", "config")
            if self._details is not None:
                self._details.now = {key: now.get(key) for key in rare}
                self._details.lists = {
                    "datasets": seen.dataset_rows(),
                    "checkpoints": seen.checkpoint_rows(),
                }

    def _connection(self, seen: Seen) -> tuple[str, str]:
        """Whether the workbench is there, and if not, why: the lookout asks, the subscription listens."""
        listening = self._subscription
        if listening is not None and listening.error is not None:
            return "unreachable", str(listening.error)
        if listening is not None and seen.connection == "looking":
            return "connected", ""
        return seen.connection, seen.problem

    def _actions(self, standing: Standing) -> list[str]:
        if self.read_only:
            return []
        is_spent = self._privacy is not None and self._privacy.get("steps_left") == 0
        return [action for action in standing.actions() if not (action == "train" and is_spent)]

    def _shown_standing(self, standing: Standing) -> dict[str, Any]:
        shown = asdict(standing)
        shown["reason"] = standing.reason and sentence(standing.reason)
        if self.published:  # reasons and notices may tell of single rows
            ended_badly = standing.status == "error"
            shown.update(reason="It stopped with an error." if ended_badly else None, notice="", config={})
        return shown


def _loads(event: Event) -> bool:
    """Whether a checkpoint was loaded, here or by a cell or another tab."""
    told = (event.data.get("operation"), event.data.get("status"))
    return event.type == "operation" and told == ("load_state", "completed")


def creation(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for `create_training_client` that a filled-in form means.

    Raises InvalidRequest, naming the field, for what cannot be meant.
    """
    asked: dict[str, Any] = {
        "model_ref": str(values.get("model_ref") or "").strip(),
        "dataset": values.get("dataset_id") or None,
        "learning_rate": positive(values, "learning_rate", "Learning rate"),
        "batch_size": whole(values, "batch_size", "Batch size"),
        "max_steps": whole(values, "steps", "Steps"),
    }
    if not asked["model_ref"]:
        raise InvalidRequest("choose a model")
    if values.get("private", True):
        asked["target_epsilon"] = positive(values, "target_epsilon", "Target ε")
        asked["max_grad_norm"] = positive(values, "max_grad_norm", "Clipping norm")
    if values.get("lora_rank"):
        asked["lora_rank"] = whole(values, "lora_rank", "LoRA rank")
    return asked
