"""The audit log for people outside: a report of whether it holds, and an export that proves itself.

An export is JSON Lines. Each entry is `{"entry": {…}}` with the members of `chain.FIELDS` and `hash`;
after them come `{"head": {…}}` for each tenant, and for `*` the head over all heads (see `heads`), and
`{"public_key": "PEM", "algorithm": "ML-DSA-65"}`. To
verify one without this program: encode each entry as `chain` says and compare its SHA-256 with `hash`,
`previous` with the hash of the tenant's entry before (64 zeros before the first) and `number` with its place;
then verify the head's `signature` (base64, context `tg-audit-head-1`) over the same encoding of the label
`tg-audit-head-1` and the head's tenant_id, number, hash and at, and find that hash in entry `number`. Take
the public key from somebody you trust, not from the export.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TextIO

from tg_workbench.crypto.signatures import ALGORITHM, FILE, SigningKey, VerifyingKey
from tg_workbench.security.audit.heads import HeadFiles, heads_in
from tg_workbench.security.audit.log import HEADS
from tg_workbench.security.audit.verifying import reading, rows, verify
from tg_workbench.settings import Settings
from tg_workbench.storage import Database


def report(
    settings: Settings, out: TextIO, database: str | None, public_key: str | None, heads: str | None
) -> int:
    """Verify, and say what was found: 0 when the log holds, else 1.

    Without `public_key` it is the workbench's own: then its seals and the heads in TG_HOME are asked too.
    Raises AuditUnreadable, SigningKeyUnreadable.
    """
    own = SigningKey.read(settings.home / "keys" / FILE) if public_key is None else None
    public = VerifyingKey.read(Path(public_key)) if public_key is not None else None
    folder = Path(heads) if heads is not None else settings.home / HEADS if own is not None else None
    files = None if folder is None else HeadFiles(folder)
    verdict = verify(_database(settings, database), public, key=own, files=files)
    for found in verdict.breaks:
        out.write(f"BROKEN {found}\n")
    holds = "holds" if verdict.holds else "does NOT hold"
    out.write(f"the audit log {holds}: {verdict.entries} entries of {verdict.tenants} tenant(s)\n")
    if verdict.unsigned:
        sealed = "sealed, but" if own is not None else "nothing vouches for them:"
        out.write(f"{verdict.unsigned} of them are newer than the newest head: {sealed} not signed yet\n")
    if folder is None:
        out.write("no folder of heads was given: an older database with an older head would not be noticed\n")
    return 0 if verdict.holds else 1


def export(settings: Settings, out: TextIO, database: str | None, tenant_id: str | None) -> int:
    """Write the log as JSON Lines. Raises AuditUnreadable, SigningKeyUnreadable."""
    public = SigningKey.read(settings.home / "keys" / FILE).public
    with reading(_database(settings, database)) as session:
        for entry in rows(session, tenant_id):
            out.write(json.dumps({"entry": dict(entry)}, default=repr) + "\n")
        for owner, head in heads_in(session):
            if head is not None and tenant_id in (None, owner):
                out.write(json.dumps({"head": head.as_json()}) + "\n")
    out.write(json.dumps({"public_key": public.pem.decode(), "algorithm": ALGORITHM}) + "\n")
    return 0


def _database(settings: Settings, file: str | None) -> Database:
    url = settings.database_url if file is None else f"sqlite:///{Path(file).absolute()}"
    return Database(url)
