"""Fleets: the devices of an organisation as one population, whose ε all its rounds spend together.

Pitfalls: whatever a round tells about its updates beside the model is not covered by ε: losses, accuracies
and counts of samples. A fleet is charged before its noise is drawn, and never gets anything back.
"""

from tg_workbench.federation.fleets.fleets import Fleets
from tg_workbench.federation.fleets.privacy_settings import PrivacySettings
from tg_workbench.federation.fleets.tables import Fleet, NoiseTree, RoundCharge, RoundDraw

__all__ = ["Fleet", "Fleets", "NoiseTree", "PrivacySettings", "RoundCharge", "RoundDraw"]
