"""FedProx: FedAvg whose devices are held near the model they were given.

Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in Heterogeneous Networks", MLSys 2020,
equation (2): a device minimises F(w) + (μ/2)·‖w − wᵗ‖². The server's part is FedAvg's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tg_workbench.federation.strategies.mean import MeanThenStep
from tg_workbench.federation.strategies.registry import strategy
from tg_workbench.federation.strategies.strategy import Aggregation, LocalRule, State, is_number, require

if TYPE_CHECKING:
    from tg_workbench.federation.strategies.strategy import Vector


@strategy
@dataclass(frozen=True, slots=True)
class FedProx:
    """The weighted mean of updates from devices that do not stray."""

    name: ClassVar[str] = "fedprox"
    summary: ClassVar[str] = (
        "FedAvg whose devices stay near the shared model: steadier where their data differ or some train "
        "for longer than others. More proximal means slower."
    )
    needs_each_update: ClassVar[bool] = False
    max_staleness: ClassVar[None] = None
    fewest: ClassVar[int] = 1
    proximal: float = 0.01
    """μ, the strength of the pull; 0 is FedAvg."""

    def __post_init__(self) -> None:
        require(is_number(self.proximal, 0.0, 1e6), "proximal", "a number from 0 to 1e6")

    @property
    def local(self) -> LocalRule:
        """The pull on every device."""
        return LocalRule(proximal=float(self.proximal))

    def begin(self, parameters: Vector, state: State) -> Aggregation:
        """A round whose step is the mean itself."""
        return MeanThenStep(parameters, state, lambda mean, _: (mean, {}))
