"""Complaints: who is left out of a round because parcels do not open, before anybody has masked anything.

A parcel that does not open speaks against its sender, or against a recipient that lies; nobody else can tell
which. So at least one of the two does not play fair, and an honest device is in complaints with no more
others than there are among its neighbours that do not. `bearable` of them are reckoned with: half of those
that a device can lose and still have its secrets put together, the other half being left for those that
vanish. Then

1. a device that is in complaints with more others than that is left out. It cannot be honest;
2. of each complaint that is left, both devices are. One of them is not honest, so those that do not play fair
   take no more honest ones with them than they are themselves: each is as bad as one that drops out.

Thus with at most `bearable` of them enough honest devices stay for the sum. With more the round may end
without one, which whoever holds so many devices could have had by letting them vanish.

Why it tells nobody anything: whoever is left out has sent no vector, and whoever stays masks with none of
those left out, and forgets the shares it holds of them before it masks. So no share of a device that is left
out is ever told, and of the others one secret each, as before: what devices sign at the end is who is in the
sum, and they sign once. A server that breaks parcels itself, or makes complaints up, does no more than one
that keeps parcels back or calls devices late, against which too few survivors is the answer: a device masks
with more than two thirds of its neighbours, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from tg_workbench.federation.updates.secure_aggregation.graph import Graph, threshold


def bearable(holders: int) -> int:
    """How many devices that do not play fair each device may have among so many that hold its shares."""
    return (holders - threshold(holders)) // 2


def left_out(graph: Graph, broken: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Who is left out, and why. `broken` says of each device whose parcels it could not open."""
    told = {
        (by, sender)
        for by, senders in broken.items()
        for sender in senders
        if sender in broken and sender in graph.neighbours(by)
    }
    out: dict[str, str] = {}
    while worst := _worst(graph, told):
        out[worst] = _reason(graph, told, worst)
        told = {pair for pair in told if worst not in pair}
    for by, sender in sorted(told):
        if by not in out and sender not in out:
            out[sender] = "what it had sealed for another device could not be opened"
            out[by] = "it could not open what another device had sealed for it"
    return out


def _worst(graph: Graph, told: Collection[tuple[str, str]]) -> str | None:
    """The device in complaints with most others, if they are more than an honest one can have.

    Two that complain of each other are one other to each. Of two devices with as many, it is the sender.
    """
    others: dict[str, set[str]] = {}
    for by, sender in told:
        others.setdefault(by, set()).add(sender)
        others.setdefault(sender, set()).add(by)
    against = Counter(sender for _, sender in told)
    beyond = [name for name, found in others.items() if len(found) > bearable(len(graph.holders(name)))]
    return max(sorted(beyond), key=lambda name: (len(others[name]), against[name]), default=None)


def _reason(graph: Graph, told: Collection[tuple[str, str]], name: str) -> str:
    against = sum(sender == name for _, sender in told)
    neighbours = len(graph.neighbours(name))
    if against:
        return f"{against} of its {neighbours} neighbours could not open what it had sealed for them"
    made = sum(by == name for by, _ in told)
    return f"it said that it could not open what {made} of its {neighbours} neighbours had sealed for it"
