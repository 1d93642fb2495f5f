"""Who is asking: principals, and what stands for them: API keys, sessions, applications that were let in.

Users belong to organisations by memberships, and a membership is the principal: rooms that ask for the owner
of a row have asked for the organisation, too.

Pitfalls: a key acts as the principal it was issued for, so two keys of one person see the same clients; what
a credential may not do is decided by its scopes, never by its name; the scopes in an access token are a
ceiling, and what holds is what the member may do now.
"""

from tg_workbench.identity.api_keys import ApiKeys
from tg_workbench.identity.invitations import Invitations
from tg_workbench.identity.memberships import Memberships
from tg_workbench.identity.oauth_clients import NewClient, OAuthClients, is_for, may_lead_to
from tg_workbench.identity.oauth_codes import Exchange, OAuthCodes
from tg_workbench.identity.organizations import Organizations
from tg_workbench.identity.permissions import OAUTH_SCOPES, ROLES, meant_by, scopes_of, written
from tg_workbench.identity.principal import DEVICE, LOCAL, LOCAL_PRINCIPAL, SCOPES, Principal
from tg_workbench.identity.sessions import Sessions
from tg_workbench.identity.tables import (
    ApiKey,
    Invitation,
    Membership,
    OAuthClient,
    Organization,
    User,
    UserSession,
)
from tg_workbench.identity.users import NewAccount, Users, compared

__all__ = [
    "DEVICE",
    "LOCAL",
    "LOCAL_PRINCIPAL",
    "OAUTH_SCOPES",
    "ROLES",
    "SCOPES",
    "ApiKey",
    "ApiKeys",
    "Exchange",
    "Invitation",
    "Invitations",
    "Membership",
    "Memberships",
    "NewAccount",
    "NewClient",
    "OAuthClient",
    "OAuthClients",
    "OAuthCodes",
    "Organization",
    "Organizations",
    "Principal",
    "Sessions",
    "User",
    "UserSession",
    "Users",
    "compared",
    "is_for",
    "may_lead_to",
    "meant_by",
    "scopes_of",
    "written",
]
