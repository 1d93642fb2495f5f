from __future__ import annotations

import math

import pytest

from tg_workbench.errors import BudgetExhausted
from tg_workbench.privacy import PrivacyBudget


def test_budget_refuses_a_step_past_the_target() -> None:
    budget = PrivacyBudget(target_epsilon=3.0, delta=1e-5)
    with pytest.raises(BudgetExhausted, match=r"3\.50 of 3\.00"):
        budget.after(3.5)


def test_budget_refuses_what_is_no_number() -> None:
    with pytest.raises(BudgetExhausted):
        PrivacyBudget(target_epsilon=3.0, delta=1e-5).after(math.nan)


def test_budget_never_falls() -> None:
    budget = PrivacyBudget(target_epsilon=3.0, delta=1e-5).after(2.0).after(1.0)
    assert budget.spent_epsilon == 2.0
    assert budget.remaining_epsilon == 1.0
