"""Where devices of a round with secure aggregation leave what they say, and find what others have said."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from tg_workbench.contracts.providers import TheLetterbox
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm
from tg_workbench.federation.rounds.letterbox import Letter
from tg_workbench.identity import DEVICE

router = APIRouter(
    prefix="/workbench/v1/federation/rounds/{round_id}/secure",
    route_class=WorkbenchRoute,
    tags=["Federation"],
    responses=FAILURES,
)


class SecureWord(ExactForm):
    """What a device says in a step: a message of the protocol, bytes in base64."""

    step: Literal["advertise", "share", "report", "agree", "unmask"]
    content: dict[str, Any]


class SecureLetter(BaseModel):
    """How far the round is; `content` is what the device needs for its step, and null when it has done it."""

    phase: str
    reason: str | None
    step: str | None
    content: dict[str, Any] | None

    @classmethod
    def of(cls, letter: Letter) -> SecureLetter:
        """A letter, as it is sent."""
        told = None if letter.told is None else dict(letter.told)
        return cls(phase=letter.phase, reason=letter.reason, step=letter.step, content=told)


@router.get("")
@needs(DEVICE)
async def read_secure_letter(letterbox: TheLetterbox) -> SecureLetter:
    """What there is for this device in a round with secure aggregation."""
    return SecureLetter.of(letterbox.look())


@router.post("")
@needs(DEVICE)
async def say_in_secure_round(body: SecureWord, letterbox: TheLetterbox) -> SecureLetter:
    """Say what the protocol asks for in this step. The same again is the same; something else is refused."""
    return SecureLetter.of(letterbox.take(body.step, body.content))
