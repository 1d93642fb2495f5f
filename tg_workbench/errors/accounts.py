"""What can go wrong with who is asking: accounts, sign-in, organisations, applications."""

from __future__ import annotations

from tg_workbench.errors.families import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    Refused,
    Unauthenticated,
    WorkbenchError,
)


class WrongPassword(Unauthenticated):
    """No account has this name and this password; which of the two it was is not told."""

    def __init__(self) -> None:
        super().__init__("no account has this name and this password")


class CredentialMissing(Unauthenticated):
    """No credential was sent at all."""


class TokenExpired(Unauthenticated):
    """The token was good once."""

    def __init__(self, message: str = "this token has expired; get a new one") -> None:
        super().__init__(message)


class PasswordUnfit(InvalidRequest):
    """A password that cannot be kept: too short, too long, or with characters nobody can type."""


class TooManyAttempts(RateLimited):
    """Too many passwords were tried for one name."""

    def __init__(self, *, limit: int, window_seconds: int, retry_after: int) -> None:
        super().__init__(limit=limit, window_seconds=window_seconds, retry_after=retry_after)
        self.args = (f"too many attempts to sign in; try again in {retry_after} seconds",)


class TooManyVisits(RateLimited):
    """Too many came from one address to sign in or to register."""

    def __init__(self, *, limit: int, window_seconds: int, retry_after: int) -> None:
        super().__init__(limit=limit, window_seconds=window_seconds, retry_after=retry_after)
        self.args = (
            f"more than {limit} attempts to sign in or register came from your address in {window_seconds} "
            f"seconds; try again in {retry_after} seconds",
        )


class PasswordsBusy(RateLimited):
    """As many passwords are being looked at as the server has room for."""

    def __init__(self, retry_after: int) -> None:
        WorkbenchError.__init__(
            self, f"the server is busy with those who are signing in; try again in {retry_after} seconds"
        )
        self.retry_after = retry_after


class RegistrationClosed(PermissionDenied):
    """Nobody can register here, or nobody without an invitation."""

    def __init__(self, *, by_invitation: bool) -> None:
        super().__init__(
            "registration is by invitation: send the invitation_token that an administrator gave you"
            if by_invitation
            else "registration is closed: an administrator makes accounts here"
        )


class AccountTaken(AlreadyExists):
    """Somebody has this user name or this e-mail address already."""

    def __init__(self) -> None:
        super().__init__("an account with this user name or e-mail address")


class UserNotFound(NotFound):
    """No user has this id."""

    def __init__(self) -> None:
        super().__init__("there is no user with this id")


class SessionNotFound(NotFound):
    """No living session has this id."""

    def __init__(self) -> None:
        super().__init__("there is no session with this id")


class ApiKeyNotFound(NotFound):
    """No API key has this id."""

    def __init__(self) -> None:
        super().__init__("there is no API key with this id")


class OrganizationNotFound(NotFound):
    """No organisation has this id."""

    def __init__(self) -> None:
        super().__init__("there is no organization with this id")


class LastOwner(Refused):
    """The organisation would be left without an owner."""

    def __init__(self) -> None:
        super().__init__("an organization keeps at least one owner: make somebody else an owner first")


class InvitationNotFound(NotFound):
    """No open invitation has this id."""

    def __init__(self) -> None:
        super().__init__("there is no open invitation with this id")


class InvitationInvalid(InvalidRequest):
    """An invitation that is unknown, used, withdrawn or past its time; which is not told."""

    def __init__(self) -> None:
        super().__init__("this invitation is not valid, or no longer: ask for a new one")


class OAuthClientNotFound(NotFound):
    """No OAuth client has this id."""

    def __init__(self) -> None:
        super().__init__("there is no OAuth client with this id")


class AuthorizationRefused(InvalidRequest):
    """An application is not let in; `location` is where its user's browser takes the news."""

    def __init__(self, location: str) -> None:
        super().__init__("the application was not let in")
        self.location = location


class GrantInvalid(InvalidRequest):
    """A code or a refresh token that is unknown, used, past its time or another application's."""

    def __init__(self) -> None:
        super().__init__("this code or refresh token is not good, or no longer: ask for a new one")


class GrantUnsupported(InvalidRequest):
    """A way to get a token that is not offered."""

    def __init__(self) -> None:
        super().__init__("grant_type is authorization_code or refresh_token")


class ScopeInvalid(InvalidRequest):
    """A scope that there is not, or that this application may not ask for."""

    def __init__(self) -> None:
        super().__init__("a scope is unknown, or more than this application may ask for")


class PublicUrlMissing(WorkbenchError):
    """In production nobody may be sent to an address that a request makes up: the operator has to name it."""

    def __init__(self) -> None:
        super().__init__(
            "applications cannot be let in here yet: the operator of this workbench has to set TG_PUBLIC_URL"
        )
