"""Federation: what `wb.federation` is, where devices are asked to learn a model together.

campaign = wb.federation.start("mlp", input_shape=[64], output_size=10, rounds=10, min_participants=2)
await campaign                     # the bar moves, the kernel stays free
campaign.model.predict(rows)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tg_workbench.sdk.campaign_views import CampaignView, FleetBudget, Participation, RoundView
from tg_workbench.sdk.campaigns import CAMPAIGNS, Campaign, participations_in
from tg_workbench.sdk.connection import Body, Connection

ROUNDS = "/api/v1/fl/rounds"
BUDGET = "/workbench/v1/federation/budget"


class Federation:
    """The campaigns and rounds of your organisation's devices."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(
        self,
        architecture: str,
        *,
        input_shape: Sequence[int] | None = None,
        output_size: int | None = None,
        hidden_sizes: Sequence[int] | None = None,
        seed: int | None = None,
        rounds: int = 1,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        strategy: str | None = None,
        strategy_options: Mapping[str, Any] | None = None,
        min_participants: int | None = None,
        max_participants: int | None = None,
        target_participants: int | None = None,
        quorum: int | None = None,
        over_selection: float | None = None,
        min_memory_gb: float | None = None,
        min_cpu_cores: int | None = None,
        noise_level: float | None = None,
        target_epsilon: float | None = None,
        privacy: Mapping[str, Any] | None = None,
        compression: str | None = None,
        compression_keep: float | None = None,
        secure_aggregation: bool | None = None,
        recruiting_seconds: float | None = None,
        training_seconds: float | None = None,
        name: str | None = None,
    ) -> Campaign:
        """Ask devices to learn a model in `rounds` rounds; comes back at once.

        `architecture` is logistic, linear, mlp, cnn or resnet18; without shapes it reads MNIST's. Each device
        learns from its own rows for `epochs`, by plain SGD. A round begins when `max_participants` have
        joined (else `min_participants`), or after `recruiting_seconds` with `min_participants` at least; it
        ends when all that are needed have submitted, or after `training_seconds` with a `quorum`: the dead
        are not waited for. A round with too few devices is tried again; a third in a row ends the campaign.
        `strategy` says how updates become one: fedavg, median, multi-krum and others. With fedbuff devices
        come when they like: a round is over when `target_participants` updates are in, and who is slower may
        still hand in while at most `max_staleness` (an option, usually 4) models were made meanwhile.

        `noise_level` (the noise multiplier) or `target_epsilon` ask for differential privacy of devices;
        `privacy` names the rest, such as `clip_norm`. Without them there is no guarantee. `compression` is
        none, int8 or top-k. With `secure_aggregation` devices mask what they send, three of them at least,
        and the workbench sees nothing but the sum.

        Raises InvalidRequest, UnknownModel, PrivacyRefused.
        """
        model = {
            "architecture": architecture,
            "input_shape": _listed(input_shape),
            "output_size": output_size,
            "hidden_sizes": _listed(hidden_sizes),
            "seed": seed,
            "hyperparameters": _given(learning_rate=learning_rate, batch_size=batch_size, epochs=epochs),
        }
        criteria = {
            "min_participants": min_participants,
            "max_participants": max_participants,
            "target_participants": target_participants,
            "quorum": quorum,
            "over_selection": over_selection,
            "device_capabilities": _given(min_memory_gb=min_memory_gb, min_cpu_cores=min_cpu_cores),
        }
        private = {**_given(noise_level=noise_level, target_epsilon=target_epsilon), **(privacy or {})}
        asked = _given(
            model_config=_given(**model),
            participant_criteria=_given(**criteria),
            privacy_settings={"differential_privacy": True, **private} if private else None,
            strategy=strategy,
            strategy_options=None if strategy_options is None else dict(strategy_options),
            rounds=rounds,
            compression=compression,
            compression_keep=compression_keep,
            secure_aggregation=secure_aggregation,
            recruiting_seconds=recruiting_seconds,
            training_seconds=training_seconds,
            name=name,
        )
        first = RoundView.from_wire(self._connection.post(ROUNDS, Body.of_json(asked)))
        return self.get(first.campaign_id)

    def get(self, campaign_id: str) -> Campaign:
        """The campaign with this id: after a kernel restart, or from another notebook.

        Raises CampaignNotFound.
        """
        view = CampaignView.from_wire(self._connection.get(f"{CAMPAIGNS}/{campaign_id}"))
        return Campaign(self._connection, view)

    def __getitem__(self, campaign_id: str) -> Campaign:
        """The same, as `wb.federation[id]`."""
        return self.get(campaign_id)

    def list(self, *, limit: int = 50, offset: int = 0) -> list[Campaign]:
        """A page of campaigns, newest first; their rounds come with `refresh`."""
        answer = self._connection.get(CAMPAIGNS, {"limit": limit, "offset": offset})
        views = [CampaignView.from_wire(each) for each in answer.get("campaigns", [])]
        return [Campaign(self._connection, view) for view in views]

    def budget(self) -> FleetBudget:
        """What the rounds of your organisation's devices have spent of ε, and what they may spend."""
        return FleetBudget.from_wire(self._connection.get(BUDGET))

    def set_budget(
        self,
        *,
        epsilon_cap: float | None = None,
        delta: float | None = None,
        require_privacy: bool | None = None,
    ) -> FleetBudget:
        """Decide what they may spend: the cap only goes up, δ is fixed once something was spent.

        `require_privacy` refuses rounds without differential privacy. For administrators. Raises
        PermissionDenied, InvalidRequest, PrivacyRefused.
        """
        asked = _given(epsilon_cap=epsilon_cap, delta=delta, require_privacy=require_privacy)
        return FleetBudget.from_wire(self._connection.put(BUDGET, Body.of_json(asked)))

    def rounds(self, *, page: int = 1, size: int = 20) -> Sequence[RoundView]:
        """A page of rounds, of all campaigns, newest first."""
        answer = self._connection.get(ROUNDS, {"page": page, "size": size})
        return [RoundView.from_wire(each) for each in answer.get("rounds", [])]

    def round(self, round_id: str) -> RoundView:
        """A round as it is now. Raises RoundNotFound."""
        return RoundView.from_wire(self._connection.get(f"{ROUNDS}/{round_id}"))

    def participations(self, round: RoundView | str) -> Sequence[Participation]:
        """Each device's part in a round, in the order they joined. Raises RoundNotFound."""
        return participations_in(self._connection, round if isinstance(round, str) else round.id)


def _listed(sizes: Sequence[int] | None) -> Any:
    return None if sizes is None else [int(size) for size in sizes]


def _given(**members: Any) -> dict[str, Any]:
    """What was said; the rest is left to the workbench."""
    return {name: value for name, value in members.items() if value is not None and value != {}}
