"""Users: people with an account, by themselves in an organisation of their own or together in another's."""

from __future__ import annotations

import unicodedata
import uuid
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlmodel import Session, col, select

from tg_workbench.errors import AccountTaken, LastOwner, PermissionDenied, UserNotFound
from tg_workbench.identity.invitations import Invitations
from tg_workbench.identity.memberships import Memberships
from tg_workbench.identity.organizations import Organizations
from tg_workbench.identity.permissions import check_gift
from tg_workbench.identity.principal import LOCAL, Principal
from tg_workbench.identity.tables import Membership, User
from tg_workbench.storage.database import now


@dataclass(frozen=True, slots=True)
class NewAccount:
    """Who somebody says they are; their password is hashed already. Without one they cannot sign in yet."""

    username: str
    email: str
    password_hash: str | None = field(repr=False)
    full_name: str | None = None


class Users:
    """The people of a workbench."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def register(self, account: NewAccount, invitation: str | None = None) -> tuple[User, Membership]:
        """A new user and their place: where the invitation leads, or in an organisation of their own.

        Raises InvitationInvalid and AccountTaken; undone with its transaction, the invitation is unused then.
        """
        if invitation is not None:  # it comes first: who has none is not told whose names are taken
            accepted = Invitations(self.session).accept(invitation)
            user = self._add(account)
            return user, Memberships(self.session).add(user.id, accepted.organization_id, accepted.role)
        user = self._add(account)
        own = Organizations(self.session).found(account.username, by=user.id)
        return user, Memberships(self.session).add(user.id, own.id, "owner")

    def create(
        self, asking: Principal, account: NewAccount, role: str, organization_id: str | None = None
    ) -> tuple[User, Membership]:
        """A new user in the asker's organisation, or in one that the operator names.

        Raises AccountTaken, PermissionDenied, OrganizationNotFound.
        """
        check_gift(asking, role, None)
        if role == "owner" and not asking.is_operator:
            raise PermissionDenied("make them an admin; an owner can make them an owner later")
        organization = Organizations(self.session).get(asking, asking.meant(organization_id))
        user = self._add(account)
        return user, Memberships(self.session).add(user.id, organization.id, role)

    def get(self, asking: Principal, user_id: str) -> User:
        """The user. Raises UserNotFound, also when the asker has no organisation in common with them."""
        query = select(User).where(User.id == user_id, self._readable(asking))
        found = self.session.exec(query).one_or_none()
        if found is None:
            raise UserNotFound
        return found

    def of(self, asking: Principal) -> User | None:
        """The user who asks; None for a credential that is no user's."""
        return None if asking.user_id is None else self.session.get(User, asking.user_id)

    def list_page(self, asking: Principal, *, limit: int = 50, offset: int = 0) -> tuple[list[User], int]:
        """The users whom the asker may see, newest first, and how many there are."""
        mine = self._readable(asking)
        total = self.session.exec(select(sa.func.count()).select_from(User).where(mine)).one()
        query = select(User).where(mine).order_by(col(User.created_at).desc(), col(User.id))
        return list(self.session.exec(query.limit(limit).offset(offset))), total

    def find_by_login(self, login: str) -> User | None:
        """Whoever has this user name or e-mail address and is still here."""
        key = compared(login)
        query = select(User).where(
            sa.or_(col(User.username_key) == key, col(User.email_key) == key),
            col(User.deactivated_at).is_(None),
        )
        return self.session.exec(query).first()

    def set_password(self, user_id: str, password_hash: str) -> None:
        """Keep another password."""
        user = self.session.get_one(User, user_id)
        user.password_hash = password_hash
        self.session.add(user)
        self.session.flush()

    def deactivate(self, user: User) -> None:
        """Close an account: nothing of it opens any more. Raises LastOwner while others depend on it."""
        memberships = Memberships(self.session)
        for place in memberships.of_user(user.id):
            alone = memberships.count(place.organization_id) == 1
            if not alone and memberships.is_last_owner(place):
                raise LastOwner
            memberships.close(place)
            if alone and place.organization_id != LOCAL:
                Invitations(self.session).end_all(place.organization_id)
        user.deactivated_at, user.password_hash = now(), None
        self.session.add(user)
        self.session.flush()

    def _add(self, account: NewAccount) -> User:
        keys = compared(account.username), compared(account.email)
        taken = sa.or_(col(User.username_key).in_(keys), col(User.email_key).in_(keys))
        if self.session.exec(select(User.id).where(taken)).first() is not None:
            raise AccountTaken
        user = User(
            id=str(uuid.uuid4()),
            username=account.username,
            username_key=keys[0],
            email=account.email,
            email_key=keys[1],
            full_name=account.full_name,
            password_hash=account.password_hash,
        )
        self.session.add(user)
        self.session.flush()
        return user

    def _readable(self, asking: Principal) -> sa.ColumnElement[bool]:
        """Whom: the members of the organisation that the asker acts for, and the asker."""
        if asking.is_operator:
            return sa.true()
        members = select(Membership.user_id).where(
            Membership.organization_id == asking.tenant_id, col(Membership.ended_at).is_(None)
        )
        return sa.or_(col(User.id).in_(members), col(User.id) == asking.user_id)


def compared(name: str) -> str:
    """A user name or address as it is compared: `Ä@X.org` and `ä@x.org` are one."""
    return unicodedata.normalize("NFKC", name.strip()).casefold()
