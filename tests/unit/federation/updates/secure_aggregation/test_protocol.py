"""The sum is exact whoever drops out; a server that lies about it gets nothing out of honest devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tests.unit.federation.updates.secure_aggregation.conftest import (
    LENGTH,
    Round,
    expected,
    ids,
    key_of,
    refused,
    words_of,
)
from tg_workbench.crypto.hpke import OpeningKey, SealingKey
from tg_workbench.errors import SealBroken, SecureAggregationRefused, TooFewSurvivors
from tg_workbench.federation.updates.secure_aggregation import (
    Agreement,
    Parcel,
    Participant,
    Quantiser,
    Roster,
    Survivors,
    Total,
    Unmasking,
    messages,
    threshold,
)
from tg_workbench.federation.updates.secure_aggregation import participant as participants
from tg_workbench.federation.updates.secure_aggregation.messages import AGREEING
from tg_workbench.federation.updates.secure_aggregation.pairs import Pairs, channel_info, mark_of, own_mask
from tg_workbench.federation.updates.secure_aggregation.shares import SHARE_BYTES

STAGES = ("sharing", "reporting", "masking", "agreeing", "unmasking", "never")
"""Before which step a device drops out."""


def run(pattern: tuple[str, ...]) -> Total:
    """A round in which each device drops out where the pattern says."""
    gone = {
        stage: frozenset(n for n, s in zip(ids(len(pattern)), pattern, strict=True) if s in STAGES[: k + 1])
        for k, stage in enumerate(STAGES[:-1])
    }
    a_round = Round(len(pattern))
    survivors = a_round.masked(gone["masking"], gone["reporting"], gone["sharing"])
    for name in survivors.device_ids:
        if name not in gone["agreeing"]:
            a_round.server.take_signature(name, a_round.devices[name].agree(survivors))
    agreement = a_round.server.close_agreeing()
    for name in agreement.signatures:
        if name not in gone["unmasking"]:
            a_round.server.take_unmasking(a_round.devices[name].unmask(agreement))
    return a_round.server.finish()


def enough(pattern: tuple[str, ...]) -> bool:
    """Whether more than two thirds are there until the last step."""
    return pattern.count("never") >= threshold(len(pattern))


# ----------------------------------------------------------------------------- who drops out
@pytest.mark.parametrize(("count", "most_gone"), [(3, 3), (4, 2)])
def test_the_sum_is_exact_for_every_pattern_of_drop_outs_or_there_is_none(count: int, most_gone: int) -> None:
    """Beyond two of four nothing new can happen: that is too few whatever they do."""
    patterns = [p for p in product(STAGES, repeat=count) if count - p.count("never") <= most_gone]
    for pattern in patterns:
        if not enough(pattern):
            with pytest.raises(TooFewSurvivors):
                run(pattern)
            continue
        total = run(pattern)
        stayed = [n for n, s in zip(ids(count), pattern, strict=True) if s not in STAGES[:3]]
        assert list(total.device_ids) == stayed
        assert total.words.tolist() == expected(total).tolist()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("count", [5, 7, 9])
def test_as_many_as_may_drop_out_do_no_harm(count: int, stage: str) -> None:
    for gone in range(count - threshold(count) + 1):
        total = run((stage,) * gone + ("never",) * (count - gone))
        assert total.words.tolist() == expected(total).tolist()


def test_devices_may_drop_out_at_different_steps() -> None:
    total = run(("masking", "unmasking", "sharing", *("never",) * 7))
    assert total.device_ids == tuple(name for name in ids(10) if name not in ("dev_000", "dev_002"))
    assert total.words.tolist() == expected(total).tolist()


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_too_few_survivors_are_a_clear_error(stage: str) -> None:
    with pytest.raises(TooFewSurvivors) as refusal:
        run((stage,) * 3 + ("never",) * 4)
    assert (refusal.value.present, refusal.value.needed) == (4, 5)
    assert str(refusal.value).endswith("left: 4, that are needed: 5")


def test_a_late_share_may_still_complete_the_sum() -> None:
    a_round = Round(4)
    agreement = a_round.agreed()
    told = [device.unmask(agreement) for device in a_round.devices.values()]
    for shares in told[:2]:
        a_round.server.take_unmasking(shares)
    with pytest.raises(TooFewSurvivors):
        a_round.server.finish()
    a_round.server.take_unmasking(told[2])
    total = a_round.server.finish()
    assert total.words.tolist() == expected(total).tolist()


def test_numbers_come_out_as_near_as_the_quantiser_says() -> None:
    quantiser, vectors = Quantiser(2.0, 5), np.random.default_rng(0).normal(size=(5, LENGTH)).astype("f4")
    a_round = Round(5)
    a_round.reported()
    for vector, (name, device) in zip(vectors, a_round.devices.items(), strict=True):
        if name != "dev_001":
            words = quantiser.words(vector)
            a_round.server.take_masked(name, device.mask(words))
    survivors = a_round.server.close_masking()
    stayed = [device for name, device in a_round.devices.items() if name != "dev_001"]
    for device in stayed:
        a_round.server.take_signature(device.device_id, device.agree(survivors))
    agreement = a_round.server.close_agreeing()
    for device in stayed:
        a_round.server.take_unmasking(device.unmask(agreement))
    total = a_round.server.finish()
    clipped = np.clip(vectors[[0, 2, 3, 4]].astype("f8"), -2, 2).sum(0)
    found = quantiser.numbers(total.words, len(total.device_ids))
    assert np.abs(found - clipped).max() <= quantiser.most_error(4)


def test_a_sparse_graph_gives_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (messages, participants):
        monkeypatch.setattr(module, "degree_for", lambda devices: 6)
    total = run(("masking", *("never",) * 9, "unmasking", *("never",) * 9))
    assert len(total.device_ids) == 19
    assert total.words.tolist() == expected(total).tolist()


# ----------------------------------------------------------------------------- what the server sees
def test_the_server_sees_no_vector() -> None:
    """Two devices with the same vector send words that have nothing in common with it or each other."""
    a_round = Round(3)
    a_round.reported()
    plain = np.zeros(LENGTH, dtype=np.uint32)
    sent = [device.mask(plain) for device in a_round.devices.values()]
    assert len({words.tobytes() for words in [plain, *sent]}) == 4
    assert np.sum(sent, axis=0, dtype=np.uint32).any()  # for the own masks are still on it
    assert not plain.any()


def test_a_parcel_is_for_its_recipients_eyes() -> None:
    a_round = Round(3)
    roster = a_round.advertised()
    device = a_round.devices["dev_000"]
    for parcel in device.share(roster, a_round.server.neighbours_of("dev_000")):
        for seed in (device._own_seed, device._pairs.seed):
            assert seed not in parcel.shares + parcel.pair


# ----------------------------------------------------------------------------- a server that lies
def test_a_device_never_tells_both_secrets_of_another() -> None:
    """First dev_001 is said to have stayed, and its own seed is told; then to have dropped out."""
    a_round = Round(4)
    agreement = a_round.agreed()
    device = a_round.devices["dev_000"]
    told = device.unmask(agreement)
    assert set(told.own) == set(ids(4))
    assert not told.pairs
    without = replace(agreement.survivors, device_ids=("dev_000", "dev_002", "dev_003"))
    refused(lambda: device.unmask(Agreement(without, agreement.signatures)), "asked for twice")
    refused(lambda: device.unmask(agreement), "asked for twice")
    refused(lambda: device.agree(without), "asked for twice")


def test_what_is_told_of_the_dropped_and_the_rest_has_no_device_in_common() -> None:
    a_round = Round(7)
    agreement = a_round.agreed(masking=frozenset({"dev_001", "dev_004"}))
    told = a_round.devices["dev_000"].unmask(agreement)
    assert set(told.pairs) == {"dev_001", "dev_004"}
    assert set(told.own) == set(ids(7)) - set(told.pairs)


def test_a_device_signs_one_list_of_survivors() -> None:
    a_round = Round(4)
    survivors = a_round.masked()
    device = a_round.devices["dev_000"]
    device.agree(survivors)
    refused(lambda: device.agree(replace(survivors, device_ids=tuple(ids(4)[:3]))), "twice")


def test_a_device_that_was_told_other_survivors_than_the_rest_tells_nothing() -> None:
    """The server splits the round: to dev_000 it says that dev_003 has dropped out, to the others not."""
    for shown in ("the others' list", "its own list"):
        a_round = Round(4)
        survivors = a_round.masked()
        lie = replace(survivors, device_ids=("dev_000", "dev_001", "dev_002"))
        signatures = {
            name: device.agree(lie if name == "dev_000" else survivors)
            for name, device in a_round.devices.items()
        }
        agreement = Agreement(lie if shown == "its own list" else survivors, signatures)
        with pytest.raises(SecureAggregationRefused) as refusal:
            a_round.devices["dev_000"].unmask(agreement)
        alone = shown == "its own list"
        assert ("left: 1" if alone else "told of other survivors") in str(refusal.value)


FORGERIES: dict[str, Callable[[Agreement], dict[str, bytes]]] = {
    "none": lambda a: {},
    "too few": lambda a: dict(list(a.signatures.items())[:2]),
    "one for all": lambda a: dict.fromkeys(a.signatures, a.signatures["dev_000"]),
    "empty": lambda a: dict.fromkeys(a.signatures, b""),
    "of another list": lambda a: {
        name: key_of(number).sign(replace(a.survivors, device_ids=("dev_000",)).content, AGREEING)
        for number, name in enumerate(a.signatures)
    },
    "for another purpose": lambda a: {
        name: key_of(number).sign(a.survivors.content, b"other") for number, name in enumerate(a.signatures)
    },
    "of strangers": lambda a: {
        f"dev_9{n}": key_of(90 + n).sign(a.survivors.content, AGREEING) for n in range(4)
    },
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_without_enough_signatures_of_the_survivors_nothing_is_told(forgery: str) -> None:
    a_round = Round(4)
    agreement = a_round.agreed()
    with pytest.raises(TooFewSurvivors):
        a_round.devices["dev_000"].unmask(Agreement(agreement.survivors, FORGERIES[forgery](agreement)))
    refused(lambda: a_round.devices["dev_000"].unmask(agreement), "twice, or out of order")


LISTS: dict[str, tuple[Callable[[Survivors], Survivors], str]] = {
    "without me": (lambda s: replace(s, device_ids=s.device_ids[1:]), "this device has dropped out"),
    "too few": (lambda s: replace(s, device_ids=s.device_ids[:2]), "left: 2, that are needed: 3"),
    "nobody": (lambda s: replace(s, device_ids=()), "dropped out"),
    "one twice": (lambda s: replace(s, device_ids=(*s.device_ids[:1], *s.device_ids)), "twice"),
    "out of order": (lambda s: replace(s, device_ids=s.device_ids[::-1]), "out of order"),
    "a stranger": (lambda s: replace(s, device_ids=(*s.device_ids, "dev_9")), "never in the round"),
    "another round": (lambda s: replace(s, round_id="round_2"), "another round"),
    "another roster": (lambda s: replace(s, roster=bytes(32)), "another round"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_device_does_not_sign_survivors_that_cannot_be(name: str) -> None:
    a_round = Round(4)
    survivors = a_round.masked()
    change, reason = LISTS[name]
    refused(lambda: a_round.devices["dev_000"].agree(change(survivors)), reason)


def test_a_device_whose_parcel_was_kept_back_cannot_be_a_survivor() -> None:
    a_round = Round(7)
    a_round.shared()
    device = a_round.devices["dev_000"]
    device.report([p for p in a_round.server.parcels_for("dev_000") if p.sender != "dev_001"])
    device.mask(words_of(0))
    survivors = Survivors("round_1", a_round.server._roster.digest, tuple(ids(7)))
    refused(lambda: device.agree(survivors), "never sent its parcel")


def test_a_device_does_not_mask_with_too_few_neighbours() -> None:
    a_round = Round(4)
    a_round.shared()
    a_round.devices["dev_000"].report(a_round.server.parcels_for("dev_000")[:1])
    with pytest.raises(TooFewSurvivors) as refusal:
        a_round.devices["dev_000"].mask(words_of(0))
    assert (refusal.value.present, refusal.value.needed) == (2, 3)


def test_a_vector_is_masked_once() -> None:
    """Under the same masks, the difference of two vectors would be plain."""
    a_round = Round(3)
    a_round.reported()
    device = a_round.devices["dev_000"]
    device.mask(words_of(0))
    refused(lambda: device.mask(words_of(1)), "twice")


PARCELS: dict[str, tuple[Callable[[list[Parcel]], list[Parcel]], str]] = {
    "one twice": (lambda p: [p[0], p[0], p[1]], "came twice"),
    "for another": (lambda p: [replace(p[0], recipient="dev_001"), *p[1:]], "not from a neighbour"),
    "from a stranger": (lambda p: [replace(p[0], sender="dev_9"), *p[1:]], "not from a neighbour"),
    "from itself": (lambda p: [replace(p[0], sender="dev_000"), *p[1:]], "not from a neighbour"),
    "as from another": (lambda p: [p[0], replace(p[1], sender=p[0].sender)], "came twice"),
}


@pytest.mark.parametrize("name", PARCELS)
def test_parcels_that_no_neighbour_can_have_sent_end_the_round_for_their_recipient(name: str) -> None:
    a_round = Round(3)
    a_round.shared()
    change, reason = PARCELS[name]
    parcels = change(a_round.server.parcels_for("dev_000"))
    refused(lambda: a_round.devices["dev_000"].report(parcels), reason)
    refused(lambda: a_round.devices["dev_000"].mask(words_of(0)), "out of order")


def last_bit_of(sealed: bytes) -> bytes:
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


BROKEN: dict[str, Callable[[Parcel, Parcel], Parcel]] = {
    "shares changed": lambda one, other: replace(one, shares=last_bit_of(one.shares)),
    "shares gone": lambda one, other: replace(one, shares=b""),
    "shares of another": lambda one, other: replace(one, shares=other.shares),
    "pair changed": lambda one, other: replace(one, pair=last_bit_of(one.pair)),
    "pair gone": lambda one, other: replace(one, pair=b""),
    "marks changed": lambda one, other: replace(one, marks=last_bit_of(one.marks)),
    "marks gone": lambda one, other: replace(one, marks=b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_parcel_that_does_not_open_is_reported(name: str) -> None:
    a_round = Round(3)
    a_round.shared()
    first, second = a_round.server.parcels_for("dev_002")
    said = a_round.devices["dev_002"].report([BROKEN[name](first, second), second])
    assert said.broken == ("dev_000",)
    refused(lambda: a_round.devices["dev_002"].mask(words_of(2)), "should stay whose parcel does not open")


def test_a_server_cannot_put_its_own_keys_in_place_of_a_neighbours() -> None:
    a_round = Round(3)
    for device in a_round.devices.values():
        a_round.server.advertise(device.advertise())
    roster = a_round.server.close_advertising()
    first, *others = a_round.server.neighbours_of("dev_000")
    forged = replace(first, channel_key=OpeningKey.generate().public.raw)
    for forgery in (forged, forged.signed(key_of(99)), replace(first, signature=b"")):
        device = Participant("round_1", "dev_000", key_of(0), a_round.keys)
        said = device.advertise()
        own = {**roster.digests, "dev_000": said.digest, first.device_id: forgery.digest}
        refused(
            lambda device=device, own=own, forgery=forgery: device.share(
                Roster("round_1", own, 2), [forgery, *others]
            ),
            "did not say what the roster says",
        )


def forged_for(a_round: Round, roster: Roster, victim: str) -> tuple[list[Parcel], dict[str, Pairs]]:
    """Parcels for a device that the server has made, each in a neighbour's name, and what made them."""
    said = a_round.devices[victim]._advertised
    channel, mask_key = (SealingKey.from_bytes(raw) for raw in (said.channel_key, said.mask_key))
    parcels, shares = [], bytes(2 * SHARE_BYTES)
    made = {name: Pairs(bytes(32), "round_1", name) for name in roster.graph.neighbours(victim)}
    for name, pairs in made.items():
        sealed = channel.seal(shares, channel_info(roster.digest, name, victim))
        parcel = Parcel(name, victim, sealed, pairs.sealed_for(victim, mask_key))
        parcels.append(replace(parcel, marks=2 * mark_of(parcel, shares[:SHARE_BYTES])))
    return parcels, made


@pytest.mark.parametrize("victim", ids(4))
def test_a_server_that_seals_parcels_in_the_neighbours_names_gets_no_vector(victim: str) -> None:
    """A seal does not say who made it. So the server knows all that a device is told; the rest are honest."""
    a_round = Round(4)
    parcels, made = forged_for(a_round, a_round.shared(), victim)
    for name, device in a_round.devices.items():
        told = parcels if name == victim else a_round.server.parcels_for(name)
        a_round.server.take_report(device.report(told))
    a_round.server.close_reporting()
    sent = {}
    for number, (name, device) in enumerate(a_round.devices.items()):
        sent[name] = device.mask(words_of(number))
        a_round.server.take_masked(name, sent[name])
    survivors = a_round.server.close_masking()
    for name, device in a_round.devices.items():
        a_round.server.take_signature(name, device.agree(survivors))
    agreement = a_round.server.close_agreeing()
    for name, device in a_round.devices.items():
        if name != victim:  # which holds shares of nobody's secret
            a_round.server.take_unmasking(device.unmask(agreement))
    found = sent[victim].copy()
    own_mask(a_round.server._own_seed(victim), "round_1").take_from(found)
    for name, pairs in made.items():
        (of_victim,) = (p.pair for p in a_round.server.parcels_for(name) if p.sender == victim)
        with suppress(SealBroken):  # it is for the neighbour's eyes
            mask = pairs.mask_with(victim, of_victim)
            (mask.add_to if pairs.adds(victim) else mask.take_from)(found)
    assert found.tolist() != words_of(ids(4).index(victim)).tolist()


ROSTERS: dict[str, tuple[Callable[[Roster], Roster], str]] = {
    "another round": (lambda r: replace(r, round_id="round_2"), "not of this round"),
    "without me": (
        lambda r: replace(r, digests={k: v for k, v in r.digests.items() if k != "dev_000"}),
        "not with what this device said",
    ),
    "another key of mine": (
        lambda r: replace(r, digests={**r.digests, "dev_000": bytes(32)}),
        "not with what this device said",
    ),
    "two devices": (
        lambda r: replace(r, digests=dict(list(r.digests.items())[:2])),
        "left: 2, that are needed: 3",
    ),
    "few neighbours": (lambda r: replace(r, degree=2), "too few neighbours"),
    "other neighbours": (
        lambda r: replace(r, digests={**r.digests, "dev_9": bytes(32)}, degree=5),
        "not the neighbours",
    ),
}


@pytest.mark.parametrize("name", ROSTERS)
def test_a_device_takes_no_part_in_a_round_that_cannot_be(name: str) -> None:
    a_round = Round(5)
    roster = a_round.advertised()
    change, reason = ROSTERS[name]
    neighbours = a_round.server.neighbours_of("dev_000")
    refused(lambda: a_round.devices["dev_000"].share(change(roster), neighbours), reason)


def test_a_device_takes_part_among_as_many_as_it_was_promised() -> None:
    a_round = Round(4)
    careful = Participant("round_1", "dev_000", key_of(0), a_round.keys, least=5)
    a_round.devices["dev_000"] = careful
    roster = a_round.advertised()
    with pytest.raises(TooFewSurvivors) as refusal:
        careful.share(roster, a_round.server.neighbours_of("dev_000"))
    assert (refusal.value.present, refusal.value.needed) == (4, 5)


# ----------------------------------------------------------------------------- devices that lie
def test_a_wrong_share_among_enough_right_ones_does_no_harm() -> None:
    """It is known by its mark, so whoever sends it is one that drops out."""
    a_round = Round(7)
    agreement = a_round.agreed(masking=frozenset({"dev_006"}))
    for name in agreement.signatures:
        told = a_round.devices[name].unmask(agreement)
        if name == "dev_000":
            for wrong in (replace(told, own=zeros(told.own)), replace(told, pairs=zeros(told.pairs))):
                refused(lambda wrong=wrong: a_round.server.take_unmasking(wrong), "not the one it was given")
            continue
        a_round.server.take_unmasking(told)
    total = a_round.server.finish()
    assert total.words.tolist() == expected(total).tolist()


def zeros(shares: Mapping[str, bytes]) -> dict[str, bytes]:
    return dict.fromkeys(shares, bytes(33))


def test_a_device_whose_shares_are_of_no_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each share is the one that was sealed, and all the same they do not fit: it is the device that lied."""
    a_round = Round(4)
    liar = a_round.devices["dev_002"]
    monkeypatch.setattr(liar, "share", sharing_another_seed(liar))
    agreement = a_round.agreed()
    for device in a_round.devices.values():
        a_round.server.take_unmasking(device.unmask(agreement))
    refused(a_round.server.finish, "what dev_002 had sealed are no shares of its secret")


def sharing_another_seed(device: Participant) -> Callable[..., list[Parcel]]:
    """Its step of sharing, with shares of a seed that is not the one it has committed to."""
    share = device.share

    def shared(*told: object) -> list[Parcel]:
        device._own_seed = bytes(31) + b"x"
        return share(*told)  # type: ignore[arg-type]

    return shared


def test_the_server_takes_each_message_once_from_those_in_the_round_and_in_its_time() -> None:
    a_round = Round(4)
    device = a_round.devices["dev_000"]
    said = device.advertise()
    a_round.server.advertise(said)
    refused(lambda: a_round.server.advertise(said), "already")
    refused(lambda: a_round.server.advertise(replace(said, device_id="dev_9")), "not, or no longer")
    refused(lambda: a_round.server.advertise(replace(said, device_id="dev_001")), "not signed")
    refused(
        lambda: a_round.server.advertise(replace(said, device_id="dev_001", round_id="r")),
        "not of this round",
    )
    refused(
        lambda: a_round.server.take_masked("dev_000", words_of(0)), "not the time: the round is advertising"
    )
    refused(a_round.server.finish, "not the time")
    with pytest.raises(TooFewSurvivors):
        a_round.server.close_advertising()


def test_the_server_takes_one_parcel_for_each_neighbour() -> None:
    a_round = Round(4)
    roster = a_round.advertised()
    parcels = a_round.devices["dev_000"].share(roster, a_round.server.neighbours_of("dev_000"))
    for wrong in (
        parcels[:2],
        [*parcels, parcels[0]],
        [replace(parcels[0], sender="dev_001"), *parcels[1:]],
        [],
    ):
        refused(lambda wrong=wrong: a_round.server.take_parcels("dev_000", wrong), "one parcel")


@pytest.mark.parametrize(
    "words",
    [np.zeros(LENGTH + 1, "u4"), np.zeros(LENGTH, "u8"), np.zeros(LENGTH, "f4"), np.zeros((1, LENGTH), "u4")],
    ids=["longer", "64 bits", "numbers", "two axes"],
)
def test_the_server_takes_vectors_of_one_shape(words: np.ndarray) -> None:
    a_round = Round(3)
    a_round.reported()
    refused(lambda: a_round.server.take_masked("dev_000", words), "7 words of 32 bits")


def test_the_server_takes_no_shares_that_it_did_not_ask_for() -> None:
    a_round = Round(7)
    agreement = a_round.agreed(masking=frozenset({"dev_006"}))
    told = a_round.devices["dev_000"].unmask(agreement)
    share = told.own["dev_001"]
    for own, pairs in (
        ({**told.own, "dev_006": share}, told.pairs),
        (told.own, {**told.pairs, "dev_001": share}),
        ({**told.own, "dev_9": share}, told.pairs),
    ):
        refused(
            lambda own=own, pairs=pairs: a_round.server.take_unmasking(Unmasking("dev_000", own, pairs)),
            "has sent",
        )


def test_a_signature_of_other_survivors_is_not_taken() -> None:
    a_round = Round(4)
    a_round.masked()
    refused(lambda: a_round.server.take_signature("dev_000", b"yes"), "did not sign these")
