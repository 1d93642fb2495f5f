"""Delivery: how a sealed update gets to the workbench, a small one at once and a large one in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tg_workbench.device.sealed_updates import SealedUpdate, SealedUpdates
from tg_workbench.errors import (
    InvalidRequest,
    QuotaExceeded,
    RoundNotFound,
    RoundNotOpen,
    SecureAggregationRefused,
    UpdateAlreadySubmitted,
    UpdateRejected,
    UploadNotFound,
)
from tg_workbench.sdk.connection import Body, Connection
from tg_workbench.sdk.patience import Patience
from tg_workbench.sdk.sources import SourceFile
from tg_workbench.sdk.uploads import OCTETS, Sending

AT_ONCE_BYTES = 1 << 20
"""What is no larger goes in one request: to send it again costs less than to ask how much is there."""
PIECE_BYTES = 1 << 30
"""What has come of a piece stays, so the first one may be all of it, until the line has broken."""
ANSWER_SECONDS = 300.0
MOST_BEGINNINGS = 3
NEVER = (
    *(UpdateRejected, UpdateAlreadySubmitted, RoundNotOpen, RoundNotFound),
    *(SecureAggregationRefused, InvalidRequest),
)
"""Refusals after which the same bytes are never taken."""


class Delivery:
    """Sends one update, as often as it takes."""

    def __init__(self, connection: Connection, updates: SealedUpdates, update: SealedUpdate) -> None:
        self.connection = connection
        self.update = update
        self.file = SourceFile(updates.path(update.round_id), f"the update for round {update.round_id}")

    def send(self) -> Mapping[str, Any]:
        """What the workbench says of it, with the receipt. Raises one of NEVER, CallFailed."""
        if self.update.size <= AT_ONCE_BYTES:
            return self._at_once()
        for left in reversed(range(MOST_BEGINNINGS)):
            try:
                return self._in_pieces()
            except (UploadNotFound, InvalidRequest) as failure:
                # its time was over, or what had come was spoilt by a power cut; else it never fits
                if not left or type(failure) not in (UploadNotFound, InvalidRequest):
                    raise
        raise AssertionError("the last beginning has an end")

    def _at_once(self) -> Mapping[str, Any]:
        path = f"/api/v1/fl/rounds/{self.update.round_id}/submit"
        body, patience = Body(self.file.path.read_bytes(), OCTETS), Patience(self.connection.patience)
        while True:
            try:
                return self.connection.post(path, body, answer_seconds=ANSWER_SECONDS)
            except QuotaExceeded as full:  # updates of many devices come at once
                patience.wait_after(full)

    def _in_pieces(self) -> Mapping[str, Any]:
        uploads = f"/workbench/v1/federation/rounds/{self.update.round_id}/uploads"
        announced = Body.of_json({"size": self.update.size, "sha256": self.update.sha256})
        upload = self.connection.post(uploads, announced, answer_seconds=ANSWER_SECONDS)
        if upload["submitted"] is None:
            sending = Sending(self.connection, self.file, lambda sent: None, PIECE_BYTES)
            path = f"{uploads}/{upload['upload_id']}"
            upload = sending.finish(path, upload, lambda seen: seen.get("submitted") is not None)
        told: Mapping[str, Any] = upload["submitted"]
        return told
