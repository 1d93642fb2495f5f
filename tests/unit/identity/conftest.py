"""People, and a database in which they are."""

from __future__ import annotations

import pytest
from sqlmodel import Session

from tg_workbench.identity import Memberships, NewAccount, Principal, Sessions, Users


class Town:
    """Registers people and signs them in."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def register(self, name: str, invitation: str | None = None) -> Principal:
        """A new user, acting where the registration has led them."""
        account = NewAccount(name, f"{name}@example.org", "a hash", name.title())
        _, place = Users(self.session).register(account, invitation)
        return self.principal(place.user_id, place.organization_id)

    def principal(self, user_id: str | None, organization_id: str) -> Principal:
        """A user, acting for an organisation."""
        place = Memberships(self.session).find(user_id or "", organization_id)
        assert place is not None
        opened, _ = Sessions(self.session).begin(place)
        principal = Sessions(self.session).principal(opened.id)
        assert principal is not None
        return principal


@pytest.fixture
def town(session: Session) -> Town:
    return Town(session)


@pytest.fixture
def alice(town: Town) -> Principal:
    """She owns an organisation of her own."""
    return town.register("alice")


@pytest.fixture
def bob(town: Town) -> Principal:
    """He owns another."""
    return town.register("bob")
