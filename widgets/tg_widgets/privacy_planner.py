"""What a run would cost, tried out before anything is spent: a form, the answer in a sentence, ε over steps.

Every change asks the workbench's planner anew, from a thread; of many changes only the newest is computed.
Nothing is spent by asking, and showing it starts nothing but one look at which datasets there are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import anywidget
import ipywidgets
import traitlets

from tg_widgets import assets
from tg_widgets.fields import positive, sentence, whole
from tg_widgets.live_curve import LiveCurve, Series
from tg_workbench.errors import InvalidRequest, WorkbenchError
from tg_workbench.sdk import Workbench
from tg_workbench.sdk.datasets import Dataset
from tg_workbench.sdk.privacy_plans import PrivacyPlan

_NOW, _FURTHER, _BEFORE = "now", "further", "before"
_UNEXPECTED = "Something unexpected went wrong; the kernel's log has the details."


class PlannerForm(anywidget.AnyWidget):
    """The planner's form on the page: it reports what was filled in, and shows the answer."""

    _esm = assets.script("privacy_planner")
    _css = assets.style("panel_part.css")

    datasets = traitlets.List(traitlets.Dict()).tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)
    """The dataset the form begins with; empty: a number of examples."""
    answer = traitlets.Dict().tag(sync=True)


class PrivacyPlanner(ipywidgets.VBox):  # type: ignore[misc]
    """Tries out batch sizes, passes and ε on a dataset, or on a number of examples.

    The dataset is given whole, by its id or by its name.
    `plan` is the newest answer: `plan.noise_multiplier` is what to create the client with.
    """

    def __init__(self, dataset: Dataset | str | None = None, workbench: Workbench | None = None) -> None:
        self.plan: PrivacyPlan | None = None
        self._workbench = workbench
        self._wanted: Mapping[str, Any] | None = None
        self._is_working = False
        self._before: PrivacyPlan | None = None
        self._lock = threading.Lock()
        self._named = dataset if isinstance(dataset, str) else None
        self._form = PlannerForm(chosen=dataset.dataset_id if isinstance(dataset, Dataset) else "")
        self._form.on_msg(self._hear)
        series = [
            Series(_NOW, "ε of this run", digits=2, round_up=True),
            Series(_FURTHER, "if it went on", digits=2, round_up=True),
            Series(_BEFORE, "ε of the plan before", digits=2, round_up=True),
        ]
        self.curve = LiveCurve(
            series, title="What a run would spend", empty_text="Nothing has been planned yet."
        )
        super().__init__([self._form, self.curve])
        self.add_class("tgw-panel")

    def _hear(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        action, values = content.get("action"), content.get("values")
        if action == "ready":
            threading.Thread(target=self._list_datasets, daemon=True, name="tg-planner-datasets").start()
        elif action == "plan" and isinstance(values, dict):
            self._want(values)

    def _want(self, values: Mapping[str, Any]) -> None:
        with self._lock:
            self._wanted = values
            if self._is_working:
                return
            self._is_working = True
        threading.Thread(target=self._work, daemon=True, name="tg-planner").start()

    def _work(self) -> None:
        """Answer what is wanted, until nothing is."""
        while True:
            with self._lock:
                values, self._wanted = self._wanted, None
                if values is None:
                    self._is_working = False
                    return
            self._form.answer = {**self._form.answer, "is_computing": True}
            problem = _UNEXPECTED
            try:
                self._take(self._home().plan_privacy(**question(values)))
                problem = ""
            except WorkbenchError as failure:
                problem = sentence(str(failure))
            finally:
                self._show(problem)

    def _take(self, plan: PrivacyPlan) -> None:
        self._before, self.plan = self.plan, plan
        self.curve.clear()
        for name, one in ((_NOW, plan), (_BEFORE, self._before)):
            if one is not None and one.epsilon is not None:
                self._draw(
                    name, [(x, y) for x, y in _points(one) if x < one.steps] + [(one.steps, one.epsilon)]
                )
        self._draw(_FURTHER, [(x, y) for x, y in _points(plan) if x >= plan.steps])
        self.curve.marks = [{"x": plan.steps, "label": f"{plan.steps} steps", "tone": "teal"}]

    def _draw(self, name: str, points: list[tuple[float, float]]) -> None:
        self.curve.append(name, [x for x, _ in points], [y for _, y in points])

    def _show(self, problem: str) -> None:
        plan = self.plan
        told = {} if plan is None else {k: v for k, v in asdict(plan).items() if k != "curve"}
        self._form.answer = {
            "problem": problem,
            "is_computing": False,
            "plan": told,
            "text": "" if plan is None else sentence(str(plan)),
        }

    def _list_datasets(self) -> None:
        problem = _UNEXPECTED
        try:
            room = self._home().datasets
            if self._named is not None:
                self._form.chosen = room[self._named].dataset_id
            listed = room.list()
            self._form.datasets = [
                {"id": one.dataset_id, "text": str(one), "size": one.size}
                for one in listed
                if one.privacy == "protected"
            ]
            problem = ""
        except WorkbenchError as failure:
            problem = sentence(str(failure))
        finally:
            if problem:
                self._show(problem)

    def _home(self) -> Workbench:
        if self._workbench is None:
            self._workbench = Workbench()
        return self._workbench


def question(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for `plan_privacy` that a filled-in form means.

    Raises InvalidRequest, naming the field, for what cannot be meant.
    """
    asked: dict[str, Any] = {
        "batch_size": whole(values, "batch_size", "Batch size"),
        "epochs": positive(values, "epochs", "Passes"),
    }
    if values.get("dataset_id"):
        asked["dataset"] = str(values["dataset_id"])
    else:
        asked["size"] = whole(values, "size", "Examples")
    given = values.get("given")
    if given == "target_epsilon":
        asked[given] = positive(values, given, "Target ε")
    elif given == "noise_multiplier":
        asked[given] = positive(values, given, "Noise multiplier")
    else:
        raise InvalidRequest("give a target ε or a noise multiplier")
    return asked


def _points(plan: PrivacyPlan) -> list[tuple[float, float]]:
    """Steps and the ε after them, where there is a bound."""
    pairs = zip(plan.curve["steps"], plan.curve["epsilon"], strict=True)
    return [(x, y) for x, y in pairs if x is not None and y is not None]
