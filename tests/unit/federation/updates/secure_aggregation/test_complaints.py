"""Who seals garbage, or says so of others, is left out before anybody masks; honest devices make the sum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.federation.updates.secure_aggregation.conftest import (
    Round,
    expected,
    ids,
    refused,
    words_of,
)
from tg_workbench.federation.updates.secure_aggregation import Graph, Survivors, Total, Unmasking, threshold
from tg_workbench.federation.updates.secure_aggregation.complaints import bearable, left_out

Sent = dict[str, Unmasking]


def graph(count: int) -> Graph:
    return Graph.of(ids(count), b"seed")


def said(count: int, **broken: Iterable[str]) -> dict[str, list[str]]:
    return {name: list(broken.get(name, ())) for name in ids(count)}


# ----------------------------------------------------------------------------- who is left out
def test_nobody_is_left_out_of_a_round_in_which_all_parcels_open() -> None:
    assert left_out(graph(8), said(8)) == {}


def test_who_seals_garbage_for_all_is_left_out_alone() -> None:
    others = {name: ["dev_003"] for name in ids(8) if name != "dev_003"}
    told = "7 of its 7 neighbours could not open what it had sealed for them"
    assert left_out(graph(8), said(8, **others)) == {"dev_003": told}


def test_who_accuses_all_is_left_out_alone() -> None:
    out = left_out(graph(8), said(8, dev_003=[name for name in ids(8) if name != "dev_003"]))
    told = "it said that it could not open what 7 of its 7 neighbours had sealed for it"
    assert out == {"dev_003": told}


def test_of_one_complaint_both_devices_are_left_out_for_nobody_can_tell_who_lies() -> None:
    assert set(left_out(graph(8), said(8, dev_001=["dev_004"]))) == {"dev_001", "dev_004"}


@pytest.mark.parametrize("liar", ["dev_001", "dev_004"])
def test_who_seals_garbage_for_another_and_accuses_it_too_is_still_one_liar(liar: str) -> None:
    """Both complain of each other: whichever of them is honest is no worse off than with one complaint."""
    (honest,) = {"dev_001", "dev_004"} - {liar}
    assert set(left_out(graph(8), said(8, **{liar: [honest], honest: [liar]}))) == {liar, honest}


def test_the_honest_are_not_called_liars_because_one_liar_complains_twice() -> None:
    victims = ["dev_001", "dev_002"]
    out = left_out(graph(8), said(8, dev_004=victims, dev_001=["dev_004"], dev_002=["dev_004"]))
    assert set(out) == {"dev_004"}


def test_where_none_can_be_spared_the_sender_goes() -> None:
    assert bearable(4) == 0
    assert set(left_out(graph(4), said(4, dev_001=["dev_003"]))) == {"dev_003"}


def test_who_has_not_reported_is_in_no_complaint() -> None:
    broken = said(8, dev_001=["dev_004"])
    del broken["dev_004"]
    assert left_out(graph(8), broken) == {}


@pytest.mark.parametrize("count", [7, 8, 13, 24, 60])
def test_as_many_liars_as_are_bearable_take_no_more_honest_ones_with_them(count: int) -> None:
    """Whatever they say and seal: 200 draws of who complains of whom, with one of them in each complaint."""
    liars = set(ids(count)[: bearable(count)])
    for seed in range(200):
        draw = np.random.default_rng(seed)
        density = draw.random()
        broken: dict[str, list[str]] = {name: [] for name in ids(count)}
        for by in ids(count):
            for sender in ids(count):
                if by != sender and {by, sender} & liars and draw.random() < density:
                    broken[by].append(sender)
        out = set(left_out(graph(count), broken))
        assert len(out - liars) <= len(out & liars)
        assert count - len(out) >= threshold(count)
        kept = set(ids(count)) - out
        assert not [by for by in kept if kept & set(broken[by])]


# ----------------------------------------------------------------------------- whole rounds
def garbage(a_round: Round, sender: str, victims: Iterable[str]) -> None:
    """Have a device seal for these what does not open."""
    share, chosen = a_round.devices[sender].share, set(victims)

    def shared(*told: object) -> list[object]:
        parcels = share(*told)  # type: ignore[arg-type]
        return [replace(one, shares=bytes(1200)) if one.recipient in chosen else one for one in parcels]

    a_round.devices[sender].share = shared  # type: ignore[method-assign, assignment]


def accuse(a_round: Round, liar: str, victims: Iterable[str]) -> None:
    """Have a device say that it cannot open what these have sealed for it."""
    report, chosen = a_round.devices[liar].report, tuple(victims)

    def reported(*told: object) -> object:
        return replace(report(*told), broken=chosen)  # type: ignore[arg-type]

    a_round.devices[liar].report = reported  # type: ignore[method-assign, assignment]


def finished(a_round: Round, without: frozenset[str] = frozenset()) -> tuple[Total, Sent, dict[str, str]]:
    """The sum, all that was told to take the masks off it, and who was left out; `without` mask nothing."""
    out = a_round.reported()
    for number, (name, device) in enumerate(a_round.devices.items()):
        if name not in out and name not in without:
            a_round.server.take_masked(name, device.mask(words_of(number), a_round.server.without_for(name)))
    survivors = a_round.server.close_masking()
    for name in survivors.device_ids:
        a_round.server.take_signature(name, a_round.devices[name].agree(survivors))
    agreement = a_round.server.close_agreeing()
    sent = {name: a_round.devices[name].unmask(agreement) for name in agreement.signatures}
    for told in sent.values():
        a_round.server.take_unmasking(told)
    return a_round.server.finish(), sent, out


def require_one_secret_of_each(a_round: Round, sent: Sent, out: Iterable[str]) -> None:
    """Of no device both secrets are told, by whomever; of those left out none is."""
    own = {name for told in sent.values() for name in told.own}
    pairs = {name for told in sent.values() for name in told.pairs}
    assert not own & pairs
    assert not (own | pairs) & set(out)


@pytest.mark.parametrize("victims", [7, 4, 2])
def test_one_garbage_device_among_eight_is_left_out_and_the_others_make_the_sum(victims: int) -> None:
    a_round = Round(8)
    garbage(a_round, "dev_005", [name for name in ids(8) if name != "dev_005"][:victims])
    total, sent, out = finished(a_round)
    assert set(out) == {"dev_005"}
    assert total.device_ids == tuple(name for name in ids(8) if name != "dev_005")
    assert total.words.tolist() == expected(total).tolist()
    require_one_secret_of_each(a_round, sent, out)


@pytest.mark.parametrize(
    ("accused", "gone"),
    [(["dev_001"], {"dev_001", "dev_005"}), (ids(8)[:5], {"dev_005"})],
    ids=["one", "many"],
)
def test_a_device_that_accuses_honest_ones_is_no_worse_than_one_that_drops_out(
    accused: list[str], gone: set[str]
) -> None:
    a_round = Round(8)
    accuse(a_round, "dev_005", accused)
    total, sent, out = finished(a_round)
    assert set(out) == gone
    assert total.words.tolist() == expected(total).tolist()
    require_one_secret_of_each(a_round, sent, out)


def test_liars_garbage_and_drop_outs_together_leave_the_sum_of_the_others() -> None:
    a_round = Round(24)
    garbage(a_round, "dev_002", ids(24)[8:20])
    accuse(a_round, "dev_007", ids(24)[10:12])
    total, sent, out = finished(a_round, without=frozenset({"dev_020", "dev_021"}))
    assert "dev_002" in out
    assert len(out) <= 4
    assert len(total.device_ids) == 22 - len(out)
    assert total.words.tolist() == expected(total).tolist()
    require_one_secret_of_each(a_round, sent, out)


# ----------------------------------------------------------------------------- a server that lies about it
def test_a_server_that_ignores_a_complaint_gets_no_vector() -> None:
    a_round = Round(8)
    garbage(a_round, "dev_005", ["dev_000"])
    a_round.reported()
    refused(lambda: a_round.devices["dev_000"].mask(words_of(0)), "should stay whose parcel does not open")


def test_a_server_that_calls_a_device_left_out_and_present_gets_no_secret_of_it() -> None:
    """To dev_000 it says that dev_005 is left out, to the others that it is in."""
    a_round = Round(8)
    a_round.reported()
    device = a_round.devices["dev_000"]
    device.mask(words_of(0), ["dev_005"])
    survivors = Survivors("round_1", a_round.server._roster.digest, tuple(ids(8)))
    refused(lambda: device.agree(survivors), "never sent its parcel")


def test_a_device_leaves_out_nobody_but_neighbours() -> None:
    a_round = Round(4)
    a_round.reported()
    refused(lambda: a_round.devices["dev_000"].mask(words_of(0), ["dev_9"]), "never a neighbour")
