"""Keys that guard what is stored, one data key per tenant, and the audit log of who did what.

Pitfalls: whoever loses `keys/` in the home folder loses every checkpoint; whoever copies it together with
the database can read them all, and can sign an audit log of their own.
"""

from tg_workbench.security.audit.entries import AuditEntries, AuditQuery, Deed
from tg_workbench.security.audit.heads import Head, HeadFiles
from tg_workbench.security.audit.log import HEADS, AuditLog
from tg_workbench.security.audit.verifying import Break, Verdict, verify
from tg_workbench.security.data_keys import DataKey, DataKeys
from tg_workbench.security.tables import AuditEntry, WrappedDataKey
from tg_workbench.security.vault import Vault

__all__ = [
    "HEADS",
    "AuditEntries",
    "AuditEntry",
    "AuditLog",
    "AuditQuery",
    "Break",
    "DataKey",
    "DataKeys",
    "Deed",
    "Head",
    "HeadFiles",
    "Vault",
    "Verdict",
    "WrappedDataKey",
    "verify",
]
