"""Classic bugs of private training, each as a change of one place, and the test that must notice it.

`plant(name)` makes the import of the changed module give the wrong code, in this process only.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType

VARIABLE = "PLANTED_BUG"
"""Processes that a test starts plant the bug that this names (`sitecustomize.py`)."""


@dataclass(frozen=True)
class Mutation:
    """In `module`, `right` becomes `wrong`; `test` must fail."""

    module: str
    right: str
    wrong: str
    test: str


MUTATIONS = {
    "sigma is halved": Mutation(
        "tg_workbench.privacy.noise",
        ".mul_(noise_multiplier * clipped.bound)",
        ".mul_(noise_multiplier / 2 * clipped.bound)",
        "tests/claims/test_noise.py::test_step_moves_the_weights_by_exactly_the_noise_that_is_accounted",
    ),
    "sigma has lost a digit": Mutation(
        "tg_workbench.privacy.noise",
        ".mul_(noise_multiplier * clipped.bound)",
        ".mul_(noise_multiplier / 10 * clipped.bound)",
        "tests/claims/test_auditing.py::test_what_the_real_engine_reveals_stays_below_what_is_charged",
    ),
    "the batch's mean is clipped instead of each example": Mutation(
        "tg_workbench.privacy.clipping",
        "weights = (bound * _SLACK / norms).clamp_(max=1.0).float()",
        "weights = (bound * _SLACK / norms.mean()).clamp(max=1.0).float().expand(len(norms))",
        "tests/claims/test_clipping.py::test_no_example_moves_the_sum_further_than_the_bound",
    ),
    "biases and norms are left out of the norm": Mutation(
        "tg_workbench.privacy.clipping",
        "parts = [taps.norm(parameter).double() for parameter in taps.shares]",
        "parts = [taps.norm(parameter).double() for parameter in taps.shares if parameter.dim() > 1]",
        "tests/claims/test_clipping.py::test_row_models_clip_like_one_backward_per_example",
    ),
    "noise is divided by the number of examples": Mutation(
        "tg_workbench.privacy.noise",
        ".mul_(noise_multiplier * clipped.bound)",
        ".mul_(noise_multiplier * clipped.bound / max(1, clipped.count))",
        "tests/claims/test_noise.py::test_added_noise_has_the_multiplier_times_the_bound",
    ),
    "the sum is divided by the batch that came": Mutation(
        "tg_workbench.engine.gradients",
        "return self.spec.expected_batch_size or max(1, count)",
        "return max(1, count)",
        "tests/claims/test_noise.py::test_noise_is_divided_by_the_public_batch_size_not_the_true_one",
    ),
    "a micro-batch is dropped": Mutation(
        "tg_workbench.engine.gradients",
        "total = found if total is None else total + found",
        "total = found",
        "tests/claims/test_steps.py::test_gradient_accumulated_in_parts_equals_the_whole",
    ),
    "noise comes again in the next process": Mutation(
        "tg_workbench.privacy.randomness",
        "Cipher(AES(os.urandom(32)), CTR(os.urandom(16))).encryptor()",
        "Cipher(AES(bytes(32)), CTR(bytes(16))).encryptor()",
        "tests/unit/privacy/test_randomness.py::test_two_generators_never_agree",
    ),
    "the rate is that of the batch that came": Mutation(
        "tg_workbench.training.budget",
        "sample_rate=self.plan.sample_rate,\n            max_grad_norm",
        "sample_rate=self.plan.sample_rate * (1 + step % 2),\n            max_grad_norm",
        "tests/workers/test_operations.py::test_every_charge_names_the_rate_of_the_plan",
    ),
    "batches that the caller chose are amplified": Mutation(
        "tg_workbench.training.plan",
        "rate = min(1.0, spec.batch_size / drawn_from) if dataset is not None else 1.0",
        "rate = min(1.0, spec.batch_size / (drawn_from if dataset is not None else 1000))",
        "tests/unit/training/test_plan.py::test_rows_that_the_caller_chooses_are_never_amplified",
    ),
    "an example counts twice in a step": Mutation(
        "tg_workbench.engine.batches",
        "if len(found) < len(keys) or not found.isdisjoint(self.seen):",
        "if len(found) < len(keys):",
        "tests/workers/test_operations.py::test_same_row_twice_in_one_private_step_is_refused",
    ),
    "one row that is not finite poisons the step": Mutation(
        "tg_workbench.privacy.clipping",
        "good = _finite(norms) & known",
        "good = torch.ones_like(known)",
        "tests/claims/test_clipping.py::test_example_that_is_not_finite_contributes_zero",
    ),
    "the charge is written after the step": Mutation(
        "tg_workbench.training.operating",
        """            charged = self.budget.charge(
                operation,
                ordinal=self._charges,
                step=self.step + 1,
                participants=self.trainer.participants,
            )
        taken = self.trainer.optim_step(learning_rate=learning_rate)
""",
        """            participants = self.trainer.participants
        taken = self.trainer.optim_step(learning_rate=learning_rate)
        if self.budget is not None:
            charged = self.budget.charge(
                operation, ordinal=self._charges, step=self.step + 1, participants=participants
            )
""",
        "tests/claims/test_crashes.py",
    ),
    "a job's rate is over those that are held out too": Mutation(
        "tg_workbench.training.outfits",
        "members = len(course.learned)",
        "members = dataset.members",
        "tests/claims/test_jobs.py::"
        "test_every_step_is_charged_once_and_at_the_rate_over_those_it_learns_from",
    ),
    "who is held out is drawn anew by each worker": Mutation(
        "tg_workbench.training.courses",
        "is_held_out = _coins(members) < spec.validation_split",
        "is_held_out = np.random.default_rng().random(members) < spec.validation_split",
        "tests/claims/test_jobs.py::test_the_split_depends_on_numbers_alone",
    ),
    "early stopping looks at raw measures": Mutation(
        "tg_workbench.training.fitting",
        'return replace(rule, monitor="noisy_loss") if rule is not None and self.is_private else rule',
        "return rule",
        "tests/claims/test_jobs.py::test_nothing_raw_of_a_protected_dataset_steers_the_training",
    ),
    "the best weights of a protected dataset are chosen": Mutation(
        "tg_workbench.training.fitting",
        "if self.rule is None or self.is_private:",
        "if self.rule is None:",
        "tests/claims/test_jobs.py::test_nothing_raw_of_a_protected_dataset_steers_the_training",
    ),
    "a new version has a budget of its own": Mutation(
        "tg_workbench.datasets.populations",
        'if asked.privacy == "protected" and asked.population is None:',
        "if False:",
        "tests/unit/datasets/test_populations.py::test_one_more_row_under_the_same_name_is_no_fresh_budget",
    ),
    "a deleted version is forgotten": Mutation(
        "tg_workbench.datasets.populations",
        "            Dataset.name == name,\n",
        "            Dataset.name == name,\n            col(Dataset.deleted_at).is_(None),\n",
        "tests/unit/datasets/test_populations.py::test_one_more_row_under_the_same_name_is_no_fresh_budget",
    ),
    "a protected name may become public": Mutation(
        "tg_workbench.datasets.catalogue",
        'if spec.privacy == "public":',
        "if False:",
        "tests/unit/datasets/test_populations.py::test_a_protected_name_never_becomes_public",
    ),
    "a protected number to predict is scaled by the rows": Mutation(
        "tg_workbench.datasets.files.tables",
        """    if request.is_public:
        return Number(found.name, optional""",
        """    if True:
        return Number(found.name, optional""",
        "tests/unit/datasets/files/test_tables.py"
        "::test_of_a_protected_number_to_predict_only_what_was_declared_is_known",
    ),
    "a protected job may be seeded": Mutation(
        "tg_workbench.training.job_admission",
        "if is_protected and spec.seed is not None:",
        "if False:",
        "tests/claims/test_jobs.py::test_what_would_break_the_promise_is_refused",
    ),
    "a device's delta is not clipped": Mutation(
        "tg_workbench.privacy.user_level",
        "weight = 1.0 if norm <= self.clip_norm * _SLACK else self.clip_norm * _SLACK / norm",
        "weight = 1.0",
        "tests/claims/test_federated_noise.py::test_no_device_moves_the_sum_further_than_the_norm",
    ),
    "a round's noise is for a mean and not for a sum": Mutation(
        "tg_workbench.privacy.user_level",
        "noisy = add_noise(clipped, noise_multiplier,",
        "noisy = add_noise(clipped, noise_multiplier / expected_devices,",
        "tests/claims/test_federated_noise.py::"
        "test_noise_has_the_multiplier_times_the_norm_over_the_public_number_of_devices",
    ),
    "a round is divided by the devices that came": Mutation(
        "tg_workbench.privacy.user_level",
        "return (noisy[DELTA] / expected_devices).float().numpy()",
        "return (noisy[DELTA] / max(1, clipped.count)).float().numpy()",
        "tests/claims/test_federated_noise.py::"
        "test_noise_has_the_multiplier_times_the_norm_over_the_public_number_of_devices",
    ),
    "counting the clipped devices costs nothing": Mutation(
        "tg_workbench.privacy.adaptive_clipping",
        "return float(left**-0.5)",
        "return noise_multiplier",
        "tests/claims/test_federated_noise.py::test_adaptive_rounds_draw_both_noises_that_make_up_the_charge",
    ),
    "a device moves the count by one": Mutation(
        "tg_workbench.privacy.adaptive_clipping",
        " - _HALF * counted",
        "",
        "tests/claims/test_federated_noise.py::test_one_device_moves_the_count_by_a_half",
    ),
    "a delta of zeros is one that was not clipped": Mutation(
        "tg_workbench.privacy.adaptive_clipping",
        "int((clipped.norms > 0.0).sum())",
        "clipped.count",
        "tests/claims/test_federated_noise.py::test_a_delta_and_none_at_all_are_as_far_apart_as_is_charged",
    ),
    "a node's noise forgets the clipping norm": Mutation(
        "tg_workbench.privacy.tree_noise",
        "drawn.mul_(tree.noise_multiplier * clipped.bound)",
        "drawn.mul_(tree.noise_multiplier)",
        "tests/claims/test_federated_noise.py::"
        "test_a_prefix_of_a_tree_carries_the_noise_of_its_nodes_and_shares_them",
    ),
    "a tree costs as much as one of its nodes": Mutation(
        "tg_workbench.privacy.tree_plans",
        "GaussianStep(noise_multiplier / self.squared_sensitivity**0.5, 1.0)",
        "GaussianStep(noise_multiplier, 1.0)",
        "tests/claims/test_federated_noise.py::test_what_a_tree_hands_out_costs_what_is_charged",
    ),
    "devices come to a tree as often as they like": Mutation(
        "tg_workbench.federation.fleets.tables",
        "return len(joined) < self.participations and all(",
        "return True or all(",
        "tests/unit/federation/fleets/test_tree_budgets.py::"
        "test_a_device_that_comes_too_soon_or_too_often_is_refused",
    ),
    "a campaign that is cancelled leaves its seed behind": Mutation(
        "tg_workbench.federation.rounds.turns",
        "    Fleets(session).end_tree(campaign.id)",
        "    pass",
        "tests/unit/federation/rounds/test_turns.py::test_a_campaign_that_is_cancelled_leaves_no_seed",
    ),
    "a device tells secrets of those who were left out": Mutation(
        "tg_workbench.federation.updates.secure_aggregation.participant",
        "                self._held.pop(other, None)\n",
        "",
        "tests/unit/federation/updates/secure_aggregation/test_complaints.py::"
        "test_a_device_that_accuses_honest_ones_is_no_worse_than_one_that_drops_out",
    ),
    "a device tells both secrets of another": Mutation(
        "tg_workbench.federation.updates.secure_aggregation.participant",
        "for name, shares in self._held.items() if name not in stayed}",
        "for name, shares in self._held.items()}",
        "tests/unit/federation/updates/secure_aggregation/test_protocol.py::"
        "test_a_device_never_tells_both_secrets_of_another",
    ),
    "devices that came by themselves are amplified": Mutation(
        "tg_workbench.federation.fleets.budgets",
        "return 1.0, float(release.quorum)",
        "return 0.05, float(release.quorum)",
        "tests/unit/federation/fleets/test_budgets.py::test_sampling_counts_only_where_the_server_has_drawn",
    ),
    "a round's noise meets another sum": Mutation(
        "tg_workbench.federation.fleets.budgets",
        "held.context == context.hex() and ",
        "",
        "tests/unit/federation/fleets/test_budgets.py::test_another_sum_is_another_release_with_other_noise",
    ),
    "a round is charged every time it is done again": Mutation(
        "tg_workbench.federation.fleets.budgets",
        "if held is not None and held.context == context.hex()",
        "if False and held is not None and held.context == context.hex()",
        "tests/claims/test_federated_crashes.py",
    ),
    "a round's charge is written after its noise": Mutation(
        "tg_workbench.federation.fleets.budgets",
        """        event_id = self.charging.write(fleet, release, step, cost, (release.round_id, attempt))
        if held is not None:
            held.sealed = None
            self.session.add(held)
        key = self.vault.key_for(self.session, release.tenant_id)
        row = RoundCharge(
            round_id=release.round_id,
            attempt=attempt,
            fleet_id=fleet.id,
            campaign_id=release.campaign_id,
            event_id=event_id,
            context=context.hex(),
            expected_devices=expected,
            epsilon=cost.epsilon,
            round_epsilon=cost.round_epsilon,
            fleet_epsilon=cost.fleet_epsilon,
            accountant=cost.accountant,
            key_id=key.key_id,
        )
        row.sealed = seal(key.key, ReplayableRandom.new_seed(), _belongs_to(row))
        self.session.add(row)
        self.session.flush()
""",
        """        if held is not None:
            held.sealed = None
            self.session.add(held)
        key = self.vault.key_for(self.session, release.tenant_id)
        row = RoundCharge(
            round_id=release.round_id,
            attempt=attempt,
            fleet_id=fleet.id,
            campaign_id=release.campaign_id,
            event_id=0,
            context=context.hex(),
            expected_devices=expected,
            epsilon=cost.epsilon,
            round_epsilon=cost.round_epsilon,
            fleet_epsilon=cost.fleet_epsilon,
            accountant=cost.accountant,
            key_id=key.key_id,
        )
        row.sealed = seal(key.key, ReplayableRandom.new_seed(), _belongs_to(row))
        self.session.add(row)
        self.session.flush()
        row.event_id = self.charging.write(fleet, release, step, cost, (release.round_id, attempt))
        self.session.flush()
""",
        "tests/unit/federation/fleets/test_budgets.py::test_a_charge_is_on_the_disk_before_its_noise_is_handed_out",
    ),
}


def plant(name: str) -> None:
    """Have the module be wrong from its next import on."""
    sys.meta_path.insert(0, _Planter(MUTATIONS[name]))


class _Planter(importlib.abc.MetaPathFinder):
    """Finds the one module, and has it loaded wrong."""

    def __init__(self, mutation: Mutation) -> None:
        self.mutation = mutation

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.mutation.module:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Wrong(fullname, spec.origin, self.mutation)
        return spec


class _Wrong(importlib.machinery.SourceFileLoader):
    """Loads a source with the bug in it, and never from a cache."""

    def __init__(self, fullname: str, path: str, mutation: Mutation) -> None:
        super().__init__(fullname, path)
        self.mutation = mutation

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        changed = source.replace(self.mutation.right, self.mutation.wrong)
        assert changed != source
        return compile(changed, self.path, "exec", dont_inherit=True)
