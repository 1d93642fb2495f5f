"""What would make a privacy claim false."""

from __future__ import annotations

from tg_workbench.errors.families import InvalidRequest, Refused


class PrivacyRefused(Refused):
    """What was asked would make a privacy claim false."""


class BudgetExhausted(PrivacyRefused):
    """The next step would pass an ε cap. It was not taken and nothing was spent."""

    def __init__(
        self, *, spent: float, target: float, next_epsilon: float | None = None, of: str = "run"
    ) -> None:
        reached = "" if next_epsilon is None else f"; the next step would reach {next_epsilon:.2f}"
        super().__init__(
            f"the privacy budget of this {of} is spent: ε = {spent:.2f} of {target:.2f}{reached}"
        )
        self.spent_epsilon = spent
        self.target_epsilon = target
        self.next_epsilon = next_epsilon
        self.of = of


class UnsupportedLayer(InvalidRequest):
    """A layer whose per-example gradient we cannot form, so its privacy cannot be promised.

    With an `engine`: one that this engine cannot clip, or would clip wrongly; ours may.
    """

    def __init__(self, layer: str, kind: str, engine: str | None = None) -> None:
        if engine is None:
            why = "has no per-example gradient here; replace it or freeze it to train privately"
        else:
            why = f"cannot be clipped by engine {engine}; use engine book-keeping, or replace or freeze it"
        super().__init__(f"layer {layer!r} ({kind}) {why}")
        self.layer = layer
        self.kind = kind
        if engine is not None:
            self.engine = engine
