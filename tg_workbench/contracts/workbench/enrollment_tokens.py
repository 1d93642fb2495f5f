"""Enrolment tokens: each lets one device into one organisation, once."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from tg_workbench.contracts.accounts import UNSTORED
from tg_workbench.contracts.providers import EnrollmentTokenId, EnrollmentTokensRoom, Limit, Offset, SignedIn
from tg_workbench.contracts.route import FAILURES, needs
from tg_workbench.contracts.tg_tinker.errors import WorkbenchRoute
from tg_workbench.contracts.tg_tinker.schemas import ExactForm, Id
from tg_workbench.contracts.tg_tinker.views import View, iso
from tg_workbench.contracts.workbench.schemas import Deleted
from tg_workbench.federation.devices import EnrollmentToken

router = APIRouter(prefix="/workbench/v1", route_class=WorkbenchRoute, tags=["Devices"], responses=FAILURES)


class IssueToken(ExactForm):
    """For which device, in words; into one's own organisation, or one that the operator names."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")] | None = None
    organization_id: Id | None = None
    expires_in_hours: Annotated[float, Field(gt=0, le=24)] = 24.0


class TokenView(View):
    """An open enrolment token, without its secret."""

    enrollment_token_id: str
    name: str | None
    organization_id: str
    last_four: str
    created_at: str
    expires_at: str


class IssuedToken(TokenView):
    """A new one. The token is in this answer and nowhere else."""

    enrollment_token: str


class TokenList(View):
    """A page of open enrolment tokens, the newest first."""

    enrollment_tokens: list[TokenView]
    total: int
    limit: int
    offset: int


def _shown(token: EnrollmentToken) -> dict[str, Any]:
    return {
        "enrollment_token_id": token.id,
        "name": token.name,
        "organization_id": token.organization_id,
        "last_four": token.last_four,
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
    }


@router.post("/enrollment-tokens", status_code=201)
@needs("devices")
async def issue_enrollment_token(
    body: IssueToken, owner: SignedIn, tokens: EnrollmentTokensRoom, answer: Response
) -> IssuedToken:
    """A token that lets one device into your organisation, once, within a day."""
    token, secret = tokens.issue(owner, **body.model_dump())
    answer.headers.update(UNSTORED)
    return IssuedToken(**_shown(token), enrollment_token=secret)


@router.get("/enrollment-tokens")
@needs("devices")
async def list_enrollment_tokens(
    owner: SignedIn, tokens: EnrollmentTokensRoom, limit: Limit = 50, offset: Offset = 0
) -> TokenList:
    """List the tokens that no device has used yet."""
    page, total = tokens.list_page(owner, limit=limit, offset=offset)
    shown = [TokenView(**_shown(token)) for token in page]
    return TokenList(enrollment_tokens=shown, total=total, limit=limit, offset=offset)


@router.delete("/enrollment-tokens/{enrollment_token_id}")
@needs("devices")
async def revoke_enrollment_token(
    enrollment_token_id: EnrollmentTokenId, owner: SignedIn, tokens: EnrollmentTokensRoom
) -> Deleted:
    """Revoke a token that no device has used yet."""
    tokens.revoke(owner, enrollment_token_id)
    return Deleted()
