"""Two Jupyter Servers for the whole session; tests that end theirs start one of their own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.server_extension.jupyter import BACKEND, Jupyter, running_jupyter


@pytest.fixture(scope="session")
def jupyter() -> Iterator[Jupyter]:
    """Jupyter at `/`, with a backend that may be sent a GiB."""
    with running_jupyter(TG_MAX_BODY_BYTES=str(2**30)) as server:
        yield server


@pytest.fixture(scope="session")
def hub() -> Iterator[Jupyter]:
    """Jupyter as JupyterHub would run it, with a backend that may be sent a MiB."""
    with running_jupyter(
        base_url="/user/alice/",
        server={"identity_provider_class": "hub_identity.HubIdentity"},
        TG_MAX_BODY_BYTES=str(2**20),
        PYTHONPATH=str(BACKEND.parent),
    ) as server:
        yield server


@pytest.fixture
def client(jupyter: Jupyter) -> Iterator[httpx.Client]:
    """Somebody with Jupyter's token."""
    with jupyter.client() as logged_in:
        yield logged_in


@pytest.fixture
def browser(jupyter: Jupyter) -> Iterator[httpx.Client]:
    """Somebody with Jupyter's cookies."""
    logged_in = jupyter.browser()
    yield logged_in
    logged_in.close()
