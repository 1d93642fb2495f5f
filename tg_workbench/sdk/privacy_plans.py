"""What a run would cost, before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tg_workbench.sdk.values import Value


@dataclass(frozen=True, slots=True)
class PrivacyPlan(Value):
    """The cost of a run that is being thought of. Nothing was spent by asking.

    `noise_multiplier` is what to create the client with; `fits` says whether the dataset's cap allows it all.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    delta: float
    accountant: str = "pld"
    unit: str = "example"
    relation: str = "add_or_remove_one"
    mode: str = "sampled"
    epsilon: float | None = None
    """Of the run alone; None: no bound."""
    total_epsilon: float | None = None
    """With what was spent on the same people before."""
    epsilon_cap: float | None = None
    fits: bool = True
    steps_left: int | None = None
    """How many such steps the cap allows from now; None without a cap."""
    curve: Mapping[str, Sequence[float | None]] = field(default_factory=dict, repr=False)
    """`steps` and `epsilon` of this run alone, half as long again as planned."""

    def plot(self, *others: PrivacyPlan) -> Any:
        """A Plotly figure: ε over steps, of this plan and of others beside it, with the cap."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for plan in (self, *others):
            name = f"σ = {plan.noise_multiplier:g}, q = {plan.sample_rate:.3g}"
            figure.add_scatter(
                x=list(plan.curve["steps"]), y=list(plan.curve["epsilon"]), name=name, mode="lines"
            )
            figure.add_scatter(
                x=[plan.steps],
                y=[plan.epsilon],
                name=f"its {plan.steps} steps",
                mode="markers",
                showlegend=False,
            )
        if self.epsilon_cap is not None:
            figure.add_hline(self.epsilon_cap, line_dash="dash", annotation_text="the dataset's cap")
        figure.update_layout(
            title=f"What a run would spend (δ = {self.delta:g}, {self.relation.replace('_', ' ')})",
            xaxis_title="steps",
            yaxis_title="ε of the run alone",
            template="none",
        )
        return figure

    def __str__(self) -> str:
        """The plan in one sentence."""
        spent = "no bound" if self.epsilon is None else f"ε = {self.epsilon:.3g}"
        text = f"{self.steps} steps at σ = {self.noise_multiplier:g}, q = {self.sample_rate:.3g}: {spent}"
        text += f" at δ = {self.delta:g}"
        if self.epsilon_cap is None:
            return text
        if self.fits:
            return f"{text}; {self.total_epsilon:.3g} of the dataset's {self.epsilon_cap:g} in all"
        return f"{text}; the dataset's cap of {self.epsilon_cap:g} allows {self.steps_left} of them"
