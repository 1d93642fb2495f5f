"""Who is asking: principals, and the API keys that stand for them.

Pitfalls: a key acts as the principal it was issued for, so two keys of one person see the same clients; what
a key may not do is decided by its scopes, never by its name.
"""

from tg_workbench.identity.api_keys import ApiKeys
from tg_workbench.identity.principal import LOCAL_PRINCIPAL, SCOPES, Principal
from tg_workbench.identity.tables import ApiKey

__all__ = ["LOCAL_PRINCIPAL", "SCOPES", "ApiKey", "ApiKeys", "Principal"]
