"""Is every release paid for, wherever the process that makes it is killed?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "resources" / "killed_steps.py"


def test_killed_at_any_line_of_a_step_no_noise_was_drawn_that_is_not_charged(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    tries = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert len(tries) > 40, "a step has more lines than that"
    for one in tries:
        assert one["charged"] or not one["drawn"], f"killed at {one['at']}: noise that nobody paid for"
        assert one["charged"] or not one["applied"], f"killed at {one['at']}: a release that nobody paid for"
    assert any(not one["charged"] for one in tries), "before the charge nothing is spent"
    assert any(one["charged"] and not one["drawn"] for one in tries), "a crash after the charge spends it"
    assert any(one["drawn"] and not one["applied"] for one in tries)
    last = tries[-1]
    assert (last["at"], last["charged"], last["drawn"], last["applied"]) == (None, True, True, True)
