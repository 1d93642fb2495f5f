"""Widgets that show private training as it happens: in JupyterLab, in Notebook, and published by Voila.

`LiveCurve` draws numbers as they arrive, `BudgetGauge` shows what a run has revealed, and `TrainingPanel`
drives a training client with both. The first two need no server: traits in, traits out. `PrivacyPlanner`
tries out what a run would cost. `JobsTable` follows your jobs, `DatasetCard` and `ModelCard` say what there
is to know of one, and `PredictBox` asks a model. `FederationPanel` follows devices that learn together, and
`KeyStatus` says how old their keys are.

Pitfalls: importing this package starts nothing, and a widget starts nothing when it appears (Voila may run a
notebook before anybody looks at it). A raw loss, and what the columns of protected data hold, is not covered
by ε: publish with `published=True`, which the panels, the tables and both cards take.
"""

from tg_widgets.budget_gauge import BudgetGauge
from tg_widgets.dataset_card import DatasetCard
from tg_widgets.federation_panel import FederationPanel
from tg_widgets.jobs_table import JobsTable
from tg_widgets.key_status import KeyStatus
from tg_widgets.live_curve import LiveCurve, Series
from tg_widgets.model_card import ModelCard
from tg_widgets.predict_box import PredictBox
from tg_widgets.privacy_planner import PrivacyPlanner
from tg_widgets.training_panel import TrainingPanel

__all__ = [
    "BudgetGauge",
    "DatasetCard",
    "FederationPanel",
    "JobsTable",
    "KeyStatus",
    "LiveCurve",
    "ModelCard",
    "PredictBox",
    "PrivacyPlanner",
    "Series",
    "TrainingPanel",
]
