"""One hospital, in a process and a network of its own: it enrols a device and lets it learn from its rows.

`python -m tests.federation.hospital URL TOKEN FOLDER PART OF ROUNDS`: the rows are every OF-th of the digits.
"""

from __future__ import annotations

import sys

from tests.federation.digits import part_of_digits
from tg_workbench.sdk.device import Device


def main(url: str, token: str, folder: str, part: int, of: int, rounds: int) -> None:
    """Enrol, learn, leave."""
    device = Device.enroll(token, "local", url, folder=folder, name=f"hospital {part}")
    done = device.learn(part_of_digits(part, of), rounds=rounds, idle=60)
    device.close()
    if len(done) != rounds:
        sys.exit(f"only {len(done)} rounds came")


if __name__ == "__main__":
    where, (number, all_of_them, wanted) = sys.argv[1:4], map(int, sys.argv[4:7])
    main(where[0], where[1], where[2], number, all_of_them, wanted)
