"""PrivacyBudget: what a run may reveal about one example, and how much of that it has used."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tg_workbench.errors import BudgetExhausted


@dataclass(frozen=True, slots=True)
class PrivacyBudget:
    """How much a run may reveal about one example, and how much it already has."""

    target_epsilon: float
    delta: float
    spent_epsilon: float = 0.0

    @property
    def remaining_epsilon(self) -> float:
        """What is left of the target. Not what one more run may spend: ε does not simply add up."""
        return max(0.0, self.target_epsilon - self.spent_epsilon)

    def after(self, epsilon: float) -> PrivacyBudget:
        """The budget once a run has reached `epsilon`; refuses to pass the target."""
        if not epsilon <= self.target_epsilon:  # written so that NaN is refused as well
            raise BudgetExhausted(spent=epsilon, target=self.target_epsilon)
        return replace(self, spent_epsilon=max(epsilon, self.spent_epsilon))
