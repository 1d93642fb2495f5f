"""Keys that guard what is stored: one data key per tenant, wrapped by the workbench's own key.

Pitfalls: whoever loses `keys/` in the home folder loses every checkpoint; whoever copies it together with
the database can read them all.
"""

from tg_workbench.security.data_keys import DataKey, DataKeys

__all__ = ["DataKey", "DataKeys"]
