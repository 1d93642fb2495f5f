"""Flower's strategies over our devices: optional, each round in a process of an environment of Flower's own.

`flower:FedYogi` is a strategy like any of ours to whoever runs a round; `TG_FLOWER_PYTHON` names the Python
that has Flower. Nothing of Flower is ever imported here: its pins do not agree with ours.

Pitfalls: Flower sees each device's update by itself, so its strategies go together with neither differential
privacy nor secure aggregation, and what its code does with the updates, nobody here looks after.
"""

from tg_workbench.federation.flower.catalogue import PREFIX, flower_names, is_flower
from tg_workbench.federation.flower.strategy import FlowerStrategy, require_flower, strategy_named

__all__ = ["PREFIX", "FlowerStrategy", "flower_names", "is_flower", "require_flower", "strategy_named"]
