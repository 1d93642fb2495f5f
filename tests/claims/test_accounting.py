"""Is every ε true? Against reference values, Opacus's accountants, and closed forms."""

from __future__ import annotations

import math

import pytest
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy.stats import norm

from tg_workbench.privacy import GaussianStep, Odometer, epsilon, noise_multiplier

# noise_multiplier, sample_rate, steps, delta, dp-accounting's RDP, its PLD, its PLD under replace-one.
REFERENCE = [
    (1.5, 0.04, 2250, 1e-5, 7.3293, 6.7688, 13.4885),
    (1.1, 256 / 60000, 14063, 1e-5, 2.5967, 2.3818, 4.2215),
    (1.3, 256 / 60000, 3516, 1e-5, 0.9546, 0.8646, 1.5555),
    (0.7, 256 / 60000, 10547, 1e-5, 6.3197, 5.6397, 8.0487),
    (1.1, 256 / 60000, 3516, 1e-5, 1.2813, 1.1339, 1.9287),
    (4.0, 0.01, 10000, 1e-5, 1.0355, 0.9470, 1.9932),
    (1.3, 0.0025, 6000, 1e-5, 0.7242, 0.6401, 1.1585),
    (1.0, 0.001, 30000, 1e-7, 1.4155, 1.0982, 1.8267),
    (0.8, 0.005, 1000, 1e-6, 2.6265, 2.0041, 2.4024),
    (1.0, 256 / 1797, 100, 1e-4, 9.9349, 8.7323, 14.0471),
    (3.0, 256 / 1797, 300, 1e-4, 3.5365, 3.1963, 6.9031),
    (8.0, 0.01, 1000, 1e-5, 0.1474, 0.1252, 0.2638),
    (0.4, 0.01, 1000, 1e-5, 31.9385, 27.7186, 30.6448),
    (0.3, 0.5, 10, 1e-5, 81.44, 75.507, 82.368),
    (2.0, 0.001, 10000, 1e-10, 0.4185, 0.3054, 0.5783),
    (1.0, 0.001, 200000, 1e-6, 2.9113, 2.7130, 4.7114),
    (1.0, 1.0, 1, 1e-5, 4.7285, 4.3772, 9.9973),
]
LAST_DIGIT = 0.5e-4 * (1 + 1e-6)
"""Half a unit of the last digit that is printed above."""
# noise_multiplier, participations, delta, the exact ε.
CLOSED_FORM = [
    (1.0, 1, 1e-5, 4.377178),
    (0.7, 2, 1e-5, 10.122495),
    (2.0, 5, 1e-6, 5.550860),
    (4.0, 100, 1e-5, 13.206712),
    (10.0, 100, 1e-5, 4.377178),
    (2.0, 1, 1e-5, 1.993091),
    (5.0, 1, 1e-5, 0.725522),
    (1.0, 10, 1e-5, 17.856587),
]


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "rdp", "pld", "_"), REFERENCE)
def test_epsilon_equals_the_reference(
    noise: float, rate: float, steps: int, delta: float, rdp: float, pld: float, _: float
) -> None:
    terms = {"noise_multiplier": noise, "sample_rate": rate, "steps": steps, "delta": delta}
    by_renyi, exact = epsilon(**terms, accountant="rdp"), epsilon(**terms)  # type: ignore[arg-type]
    assert by_renyi == pytest.approx(rdp, abs=LAST_DIGIT if rdp < 80 else 0.005)
    assert exact == pytest.approx(pld, abs=LAST_DIGIT)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta", "_", "__", "replaced"),
    [row for row in REFERENCE if row[2] <= 3516 and row[0] > 0.35],
)
def test_epsilon_under_replace_one_equals_the_reference(
    noise: float, rate: float, steps: int, delta: float, _: float, __: float, replaced: float
) -> None:
    found = epsilon(
        noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta, relation="replace_one"
    )
    assert found == pytest.approx(replaced, abs=1e-3, rel=1e-3)


@pytest.mark.parametrize(("noise", "rate", "steps", "delta", "_", "pld", "__"), REFERENCE)
def test_epsilon_agrees_with_the_rdp_accountant_of_opacus(
    noise: float, rate: float, steps: int, delta: float, _: float, pld: float, __: float
) -> None:
    theirs = RDPAccountant()
    theirs.history = [(noise, rate, steps)]
    ours = epsilon(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta, accountant="rdp")
    assert ours == pytest.approx(theirs.get_epsilon(delta), rel=0.04)  # their orders differ a little
    assert pld <= theirs.get_epsilon(delta)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [row[:4] for row in REFERENCE if row[0] > 0.4 and row[2] <= 15000 and row[3] > 1e-10],
)
def test_epsilon_agrees_with_the_prv_accountant_of_opacus(
    noise: float, rate: float, steps: int, delta: float
) -> None:
    theirs = PRVAccountant()
    theirs.history = [(noise, rate, steps)]
    ours = epsilon(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=delta)
    assert ours <= theirs.get_epsilon(delta) <= ours + 0.014  # theirs adds its error bound of 0.01


@pytest.mark.parametrize(("noise", "steps", "delta", "exact"), CLOSED_FORM)
def test_epsilon_without_sampling_is_exact(noise: float, steps: int, delta: float, exact: float) -> None:
    found = epsilon(noise_multiplier=noise, sample_rate=1.0, steps=steps, delta=delta)
    assert found == pytest.approx(exact, abs=2e-6)
    shift = math.sqrt(steps) / noise
    reached = norm.cdf(shift / 2 - found / shift) - math.exp(found) * norm.cdf(-shift / 2 - found / shift)
    assert reached <= delta * (1 + 1e-9)


def test_epsilon_of_microbatches_under_replace_one_is_that_of_a_doubled_sensitivity() -> None:
    found = epsilon(noise_multiplier=4.0, sample_rate=1.0, steps=20, delta=1e-6, relation="replace_one")
    assert found == pytest.approx(12.595247, abs=2e-6)  # shift √5, as in TF Privacy's statement


@pytest.mark.parametrize(
    ("target", "rate", "steps", "delta"),
    [(3.0, 0.07, 200, 1e-5), (8.0, 0.04, 2000, 1e-5), (1.0, 1.0, 50, 1e-6)],
)
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_chosen_noise_keeps_the_target_and_hardly_more(
    target: float, rate: float, steps: int, delta: float, accountant: str
) -> None:
    terms = {"sample_rate": rate, "steps": steps, "delta": delta, "accountant": accountant}
    noise = noise_multiplier(target_epsilon=target, **terms)  # type: ignore[arg-type]
    reached = epsilon(noise_multiplier=noise, **terms)  # type: ignore[arg-type]
    assert 0.998 * target < reached <= target


def test_chosen_noise_equals_that_of_opacus() -> None:
    found = noise_multiplier(target_epsilon=8.0, delta=1e-5, sample_rate=0.04, steps=2000, accountant="rdp")
    assert found == pytest.approx(1.3562, abs=0.002)  # asserted in Opacus's own tests


# What other libraries assert in their tests: noise_multiplier, sample_rate, steps, delta, ε, accountant.
ASSERTED_ELSEWHERE = {
    "TF Privacy, a tutorial's run": (1.3, 150 / 60000, 6000, 1e-5, 0.7242234026, "rdp"),
    "TF Privacy, many small batches": (1.0, 100 / 1e5, 30000, 1e-7, 1.4154988495, "rdp"),
    "TF Privacy, example privacy by RDP": (0.7, 0.01, 120, 1e-5, 3.2392676, "rdp"),
    "TF Privacy, example privacy by PLD": (0.7, 0.01, 120, 1e-5, 2.4612381, "pld"),
    "dp-accounting, three Gaussians": (math.sqrt(3), 1.0, 3, 0.126936, 1.0, "pld"),
    "dp-accounting, three sampled Gaussians": (0.5, 0.2, 3, 0.15594, 1.0, "pld"),
}


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta", "asserted", "accountant"),
    ASSERTED_ELSEWHERE.values(),
    ids=ASSERTED_ELSEWHERE.keys(),
)
def test_epsilon_is_what_other_libraries_assert(
    noise: float, rate: float, steps: int, delta: float, asserted: float, accountant: str
) -> None:
    found = epsilon(
        noise_multiplier=noise,
        sample_rate=rate,
        steps=steps,
        delta=delta,
        accountant=accountant,  # type: ignore[arg-type]
    )
    # Their δ of the last two is printed to five or six digits, which is as exactly as ε = 1 is met.
    assert found == pytest.approx(asserted, abs=1e-4 if asserted == 1.0 else 1e-7)


STEP = GaussianStep(1.2, 0.07)


def test_odometer_ends_where_the_plan_was_made_to_end() -> None:
    odometer = Odometer(1e-5, plan_steps=150)
    exact = epsilon(noise_multiplier=1.2, sample_rate=0.07, steps=150, delta=1e-5)
    assert odometer.epsilon({STEP: 150}) == exact
    assert odometer.name == "pld"


def test_odometer_never_reads_too_little_and_never_falls() -> None:
    odometer = Odometer(1e-5, plan_steps=150)
    readings = [odometer.epsilon({STEP: steps}) for steps in range(0, 160, 3)]
    assert readings == sorted(readings)
    for steps in (3, 33, 99, 141, 156):
        exact = epsilon(noise_multiplier=1.2, sample_rate=0.07, steps=steps, delta=1e-5)
        assert exact - 1e-6 <= readings[steps // 3] <= exact * 1.04


def test_steps_left_is_exact_and_the_next_step_passes_the_cap() -> None:
    odometer = Odometer(1e-5)
    left = odometer.steps_left({}, STEP, cap=2.0)
    assert odometer.epsilon({STEP: left}) <= 2.0 < odometer.epsilon({STEP: left + 1})
    assert epsilon(noise_multiplier=1.2, sample_rate=0.07, steps=left, delta=1e-5) <= 2.0
    assert epsilon(noise_multiplier=1.2, sample_rate=0.07, steps=left + 1, delta=1e-5) > 2.0
    assert [odometer.steps_left({STEP: taken}, STEP, cap=2.0) for taken in (1, left, left + 9)] == [
        left - 1,
        0,
        0,
    ]
    assert odometer.epsilon({STEP: left - 2}) <= 2.0  # no reading on the way to the limit is above it


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize("other", [GaussianStep(2.0, 0.07), GaussianStep(5.0, 1.0)])
def test_steps_left_of_a_mixture_is_exact(accountant: str, other: GaussianStep) -> None:
    odometer = Odometer(1e-5, accountant=accountant)  # type: ignore[arg-type]
    left = odometer.steps_left({other: 5, STEP: 2}, STEP, cap=3.0)
    assert left > 0
    assert odometer.epsilon({other: 5, STEP: 2 + left}) <= 3.0
    assert odometer.epsilon({other: 5, STEP: 3 + left}) > 3.0
    assert odometer.name == "rdp"


def test_mixture_reads_more_than_its_parts() -> None:
    odometer, other = Odometer(1e-5), GaussianStep(2.0, 0.07)
    together = odometer.epsilon({STEP: 40, other: 40})
    assert together > odometer.epsilon({STEP: 40})
    assert together > odometer.epsilon({other: 40})
    assert together < odometer.epsilon({STEP: 80})


def test_steps_without_sampling_add_up_exactly() -> None:
    odometer = Odometer(1e-5)
    mixed = odometer.epsilon(
        {GaussianStep(2.0, 1.0): 2, GaussianStep(1.0, 1.0): 1, GaussianStep(9.0, 0.0): 5}
    )
    assert mixed == pytest.approx(
        epsilon(noise_multiplier=1.0 / math.sqrt(1.5), sample_rate=1.0, steps=1, delta=1e-5)
    )
    assert odometer.name == "pld"
    assert odometer.steps_left({}, GaussianStep(10.0, 1.0), cap=4.3772) == 100


def test_batches_that_are_cut_cost_more_and_hardly_more_where_a_cut_is_rare() -> None:
    terms = {"noise_multiplier": 1.1, "sample_rate": 256 / 60000, "steps": 3516, "delta": 1e-5}
    never = epsilon(**terms)  # type: ignore[arg-type]
    cut = [epsilon(**terms, truncated_batch_size=most, dataset_size=60000) for most in (400, 300, 256)]  # type: ignore[arg-type]
    assert never == pytest.approx(cut[0], abs=1e-6)  # nine standard deviations above the mean
    assert never < 2 * never < cut[1] < cut[2]
    for most, pld in zip((400, 300), cut, strict=False):
        rdp = epsilon(**terms, truncated_batch_size=most, dataset_size=60000, accountant="rdp")  # type: ignore[arg-type]
        assert pld <= rdp  # a bound of the same thing


def test_a_cut_batch_among_others_is_still_bounded() -> None:
    cut, plain, odometer = GaussianStep(4.0, 0.25, 60, 200), GaussianStep(4.0, 0.25), Odometer(1e-5)
    together = odometer.epsilon({cut: 3, plain: 3})
    assert together > max(odometer.epsilon({cut: 3}), odometer.epsilon({plain: 3}))
    assert together > odometer.epsilon({plain: 6})
    left = odometer.steps_left({plain: 3}, cut, cap=4.0)
    assert odometer.epsilon({plain: 3, cut: left}) <= 4.0 < odometer.epsilon({plain: 3, cut: left + 1})
