"""What was learned: models by name and version, with what they cost, and the files others read them by.

Pitfalls: ε stands for the weights, and not for the figures beside them: accuracy and loss on protected rows
are raw, for the owner only. Deleting a model gives no ε back. No model file is ever taken from a caller.
"""

from tg_workbench.models.card import card_of
from tg_workbench.models.exports import ExportFormat, ModelExports
from tg_workbench.models.learned import Learned
from tg_workbench.models.registry import ModelQuery, Models
from tg_workbench.models.shelf import Shelf, Shelved
from tg_workbench.models.tables import Model, ModelAlias

__all__ = [
    "ExportFormat",
    "Learned",
    "Model",
    "ModelAlias",
    "ModelExports",
    "ModelQuery",
    "Models",
    "Shelf",
    "Shelved",
    "card_of",
]
