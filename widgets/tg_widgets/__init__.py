"""Widgets that show private training as it happens: in JupyterLab, in Notebook, and published by Voila.

`LiveCurve` draws numbers as they arrive, `BudgetGauge` shows what a run has revealed, and `TrainingPanel`
drives a training client with both. The first two need no server: traits in, traits out. `PrivacyPlanner`
tries out what a run would cost.

Pitfalls: importing this package starts nothing, and a widget starts nothing when it appears (Voila may run a
notebook before anybody looks at it). A raw loss is not covered by ε: publish `TrainingPanel(published=True)`.
"""

from tg_widgets.budget_gauge import BudgetGauge
from tg_widgets.live_curve import LiveCurve, Series
from tg_widgets.privacy_planner import PrivacyPlanner
from tg_widgets.training_panel import TrainingPanel

__all__ = ["BudgetGauge", "LiveCurve", "PrivacyPlanner", "Series", "TrainingPanel"]
