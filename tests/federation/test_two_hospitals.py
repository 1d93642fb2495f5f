"""Two hospitals in networks of their own come as far as one that had all the rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.federation.digits import held_out_digits, part_of_digits
from tg_workbench.device.learning import LocalTrainer, Task
from tg_workbench.engine.architectures import build
from tg_workbench.engine.specs import Architecture
from tg_workbench.federation.updates import Layout

ROUNDS = 5
SHAPE = Architecture((64,), 10, (32,))


def may_make_networks() -> bool:
    """Whether this machine lets us have networks of our own."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    asked = ["unshare", "-rn", "ip", "link", "add", "tgw0", "type", "veth", "peer", "name", "tgw1"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def pooled_accuracy() -> float:
    """What one hospital with all the rows comes to, in as many epochs."""
    module = build("mlp", SHAPE, Path()).module
    arrays = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}
    layout = Layout.of({name: array.shape for name, array in arrays.items()})
    task = Task("mlp", SHAPE, layout, learning_rate=0.2, batch_size=16, epochs=5 * ROUNDS)
    rows = part_of_digits(0, 1)
    learned = LocalTrainer(task).learn(rows, layout.vector(arrays), evaluation=held_out_digits())
    return learned.metrics["accuracy"]


@pytest.mark.skipif(not may_make_networks(), reason="this machine lets nobody make networks (unshare -rn)")
def test_two_hospitals_come_as_far_as_one_with_all_the_rows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.federation.two_hospitals", str(tmp_path), "8080", str(ROUNDS)]
    done = subprocess.run(
        ["unshare", "-rn", *command],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    pooled = pooled_accuracy()
    sys.stdout.write(f"two hospitals: {told['accuracy']:.3f}, pooled: {pooled:.3f}\n")
    assert told["apart"], "the hospitals could reach one another, or the world"
    assert told["accuracy"] >= 0.95 * pooled
    assert pooled > 0.9
    secret = list(tmp_path.rglob("device.json"))
    assert len(secret) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in secret)
