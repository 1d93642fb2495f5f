"""Two hospitals learn one model, each in a network of its own: the server sees sealed updates, and no rows.

`python -m tests.federation.two_hospitals FOLDER PORT ROUNDS`, inside `unshare -rn`: says as JSON what came of
it.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.federation.digits import held_out_digits
from tests.federation.networks import Network

ROUND = {
    "model_config": {
        "architecture": "mlp",
        "input_shape": [64],
        "output_size": 10,
        "hidden_sizes": [32],
        "hyperparameters": {"learning_rate": 0.2, "batch_size": 16, "epochs": 5},
    },
    "participant_criteria": {"min_participants": 2, "max_participants": 2},
    "name": "digits of two hospitals",
}


def main(folder: Path, port: int, rounds: int) -> dict[str, Any]:
    """Start a workbench and two hospitals, and say what their model knows."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with ExitStack() as stack:
        networks = [stack.enter_context(Network(number)) for number in (1, 2)]
        apart = not networks[0].reaches(networks[1].address) and not networks[0].reaches("8.8.8.8")
        http = _workbench(stack, folder, port)
        campaign = _start(http, rounds)
        hospitals = []
        for part, network in enumerate(networks):
            url, token = f"http://{network.gateway}:{port}", _token(http)
            asked = [url, token, str(folder / f"hospital-{part}"), str(part), "2", str(rounds)]
            hospitals.append(network.start(sys.executable, "-m", "tests.federation.hospital", *asked))
        for hospital in hospitals:
            said, _ = hospital.communicate(timeout=240)
            assert hospital.returncode == 0, said
        return {"accuracy": _accuracy(http, campaign), "apart": apart, "campaign": campaign}


def _workbench(stack: ExitStack, folder: Path, port: int) -> httpx.Client:
    """A workbench that listens on every address of this network."""
    key = f"tgw-{secrets.token_urlsafe(32)}"
    home = folder / "home"
    variables = {
        "TG_HOME": str(home),
        "DATABASE_URL": f"sqlite:///{folder / 'tgsp.db'}",
        "TG_API_KEY": key,
    }
    command = [sys.executable, "-m", "tg_workbench", "serve", "--host", "0.0.0.0", "--port", str(port)]  # noqa: S104
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **variables})
    stack.callback(server.wait, 30)
    stack.callback(server.terminate)
    http = httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=60
    )
    stack.callback(http.close)
    deadline = time.monotonic() + 60
    while True:
        try:
            if http.get("/api/v1/health").status_code == 200:
                return http
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, (folder / "server.log").read_text()[-2000:]
        time.sleep(0.1)


def _token(http: httpx.Client) -> str:
    return str(http.post("/workbench/v1/enrollment-tokens", json={}).json()["enrollment_token"])


def _start(http: httpx.Client, rounds: int) -> str:
    answer = http.post("/api/v1/fl/rounds", json={**ROUND, "rounds": rounds})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["campaign_id"])


def _accuracy(http: httpx.Client, campaign_id: str) -> float:
    """That of the campaign's model on the digits that nobody has learned from."""
    deadline = time.monotonic() + 60
    path = f"/workbench/v1/federation/campaigns/{campaign_id}"
    while (seen := http.get(path).json())["status"] == "active":
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    assert seen["status"] == "completed", seen
    rows = held_out_digits()
    answer = http.post(f"/models/{seen['model_id']}/predict", json={"inputs": rows["features"].tolist()})
    assert answer.status_code == 200, answer.text
    said = [each["class"] for each in answer.json()["predictions"]]
    right = sum(int(mine) == int(true) for mine, true in zip(said, rows["targets"], strict=True))
    return right / len(said)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
