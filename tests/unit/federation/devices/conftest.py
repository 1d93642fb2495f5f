"""An organisation with a device, in a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session

from tg_workbench.federation.devices import (
    CertificateOffice,
    Device,
    Enrolled,
    Enrollment,
    EnrollmentTokens,
    NewDevice,
    Offer,
    Terms,
)
from tg_workbench.identity import LOCAL_PRINCIPAL
from tg_workbench.storage import Database


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    database = Database(f"sqlite:///{tmp_path}/x.db")
    database.migrate()
    with database.write() as opened:
        yield opened
    database.close()


@pytest.fixture
def office(tmp_path: Path) -> CertificateOffice:
    return CertificateOffice(tmp_path)


@pytest.fixture
def enrolled(session: Session, office: CertificateOffice) -> Enrolled:
    _, secret = EnrollmentTokens(session).issue(LOCAL_PRINCIPAL)
    new = NewDevice("Barn", "raspberry_pi", {"cpu_cores": 4, "memory_gb": 8, "storage_gb": 1, "gpu": False})
    return Enrollment(session, office, Terms(10, must_bring_keys=False)).register(
        secret, LOCAL_PRINCIPAL.tenant_id, new, Offer()
    )


@pytest.fixture
def device(enrolled: Enrolled) -> Device:
    return enrolled.device
