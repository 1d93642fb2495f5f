"""QFLARE's own client against a server on a port: its document's example, and what goes with it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.contracts.test_process import answers, serving
from tests.federation.conftest import CLASSES, SIDE, rows_of
from tests.ports import free_port
from tg_workbench import (
    CallFailed,
    DeadlineExceeded,
    DeviceNotFound,
    RoundNotFound,
    Unauthenticated,
    Workbench,
)
from tg_workbench.sdk.device import Device
from tg_workbench.sdk.qflare import QFLAREClient

EXAMPLE = """\
from qflare import QFLAREClient

client = QFLAREClient(
    base_url="https://qflare-production.company.com",
    api_key="your_api_key"
)

# List devices
devices = client.devices.list()

# Start training round
round_id = client.fl.start_round({
    "model_config": {"architecture": "cnn"},
    "participant_criteria": {"min_participants": 10}
})
"""
"""The document's Python example, to the letter."""
ALIAS = 'import sys, tg_workbench.sdk.qflare; sys.modules["qflare"] = tg_workbench.sdk.qflare\n'
"""The line that programs written for QFLARE need, as our client's docstring has it."""
KEY = "tgw-a-key-for-the-server-of-these-tests-alone"


@dataclass(frozen=True)
class Site:
    """A server on a port, and where devices may live."""

    url: str
    folder: Path


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        tempfile.TemporaryDirectory(prefix="tgw-") as name,
        serving(Path(name), PORT=str(port), TG_API_KEY=KEY),
        httpx.Client(base_url=url) as http,
    ):
        answers(http, "/ready", 200)
        yield Site(url, Path(name))


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[QFLAREClient]:
    with QFLAREClient(base_url=site.url, api_key=KEY) as client:
        yield client


def test_the_documents_example_runs_as_it_stands(site: Site, client: QFLAREClient) -> None:
    example = EXAMPLE.replace("https://qflare-production.company.com", site.url).replace("your_api_key", KEY)
    program = f"{ALIAS}{example}print(len(devices), round_id)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    count, round_id = done.stdout.split()
    assert (count, round_id.startswith("round_")) == ("0", True)
    started = client.fl.get_round(round_id)
    assert (started["architecture"], started["min_participants"]) == ("cnn", 10)
    assert round_id in [each["id"] for each in client.fl.list_rounds()]
    with pytest.raises(DeadlineExceeded, match="goes on"):
        client.fl.wait_for_round(round_id, timeout=0.1)
    with Workbench(site.url, KEY) as workbench:
        workbench.federation[started["campaign_id"]].cancel()


def test_the_base_url_that_the_document_names_is_taken(site: Site) -> None:
    base_url = f"{site.url}/api/v1"  # "Development: http://localhost:8000/api/v1"
    with QFLAREClient(base_url=base_url, api_key=KEY) as client, Workbench(base_url, KEY) as workbench:
        assert isinstance(client.devices.list(), list)
        assert workbench.datasets.list() == []
        assert "checks" in workbench.health(), "the workbench's own, and not the document's"


def test_a_round_is_started_waited_for_and_told_of_in_the_documents_words(
    site: Site, client: QFLAREClient
) -> None:
    devices = []
    with Workbench(site.url, KEY) as workbench:
        for name in ("one", "two"):
            token = workbench.devices.enrollment_token(name)
            assert token.enrollment_token is not None
            devices.append(
                Device.enroll(
                    token.enrollment_token,
                    token.organization_id,
                    site.url,
                    folder=site.folder / name,
                    name=name,
                )
            )
    round_id = client.fl.start_round(
        {
            "model_config": {"architecture": "logistic", "input_shape": [SIDE], "output_size": CLASSES},
            "participant_criteria": {"min_participants": 2},
        }
    )
    with ThreadPoolExecutor(2) as pool:
        for seed, device in enumerate(devices):
            pool.submit(device.learn, rows_of(seed), rounds=1)
    ended = client.fl.wait_for_round(round_id, timeout=60)
    assert (ended["status"], ended["progress"]["completed_devices"]) == ("completed", 2)
    assert {each["name"] for each in client.devices.list()} == {"one", "two"}
    assert client.devices.list(status="training") == []
    changed = client.devices.update(devices[0].id, {"config": {"update_interval": 60}})
    assert changed["config"]["update_interval"] == 60
    keys = client.keys.list()
    assert [each["algorithm"] for each in keys["keys"]] == ["CRYSTALS-Kyber"] * 2
    assert client.keys.rotate(devices[1].id)["devices"] == 1
    assert client.health()["status"] == "healthy"
    assert "performance" in client.status()
    client.devices.delete(devices[0].id)
    with pytest.raises(DeviceNotFound):
        client.devices.get(devices[0].id)
    for device in devices:
        device.close()


def test_what_goes_wrong_is_said_without_the_key(site: Site, client: QFLAREClient) -> None:
    assert KEY not in repr(client)
    with pytest.raises(RoundNotFound):
        client.fl.get_round("round_00000000000000000000000000000000")
    with (
        QFLAREClient(base_url=site.url, api_key="tgw-another") as stranger,
        pytest.raises(Unauthenticated) as refusal,
    ):
        stranger.devices.list()
    assert "tgw-another" not in str(refusal.value)
    with pytest.raises(CallFailed, match="https://"):
        QFLAREClient(base_url="qflare.example", api_key=KEY)
