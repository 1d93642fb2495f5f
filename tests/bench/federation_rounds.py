"""Rounds until twenty devices read 95 % of the digits, shaped as Table 2 of McMahan et al. 2017."""

from __future__ import annotations

from typing import Any

from tests.federated_digits import MEASURED, best


def main() -> list[dict[str, Any]]:
    """Every cell of the table, each at the best of three learning rates."""
    return [
        cell(epochs, batch, iid=iid, once=once)
        for (epochs, batch), pair in MEASURED.items()
        for iid, once in zip((True, False), pair, strict=True)
    ]


def cell(epochs: int, batch: int | None, *, iid: bool, once: int) -> dict[str, Any]:
    """One cell: E epochs on a device, in batches of B."""
    found = best(epochs, batch, iid=iid)
    return {
        "case": f"E={epochs}, B={batch or '∞'}, {'IID' if iid else 'two shards'} (rounds)",
        "ours": found,
        "peer": once,
        "peer_name": "measured once",
        "ratio": (found or 10**6) / once,
        "target": "within a factor of 2",
        "met": found is not None and once / 2 <= found <= 2 * once,
    }
