"""Networks of their own: processes that reach one address and nothing else, not even one another.

Needs no root: everything lies in a user namespace that ends with the process that made it.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

HOLD = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(3600)"]


class Network:
    """A network namespace with one line to ours: we are `10.77.N.1` there, and it is `10.77.N.2`."""

    def __init__(self, number: int) -> None:
        self.gateway, self.address = f"10.77.{number}.1", f"10.77.{number}.2"
        ours, theirs = f"tgw{number}a", f"tgw{number}b"
        self._holder = subprocess.Popen(["unshare", "-n", *HOLD], stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        pid = str(self._holder.pid)
        for command in (
            f"ip link add {ours} type veth peer name {theirs} netns {pid}",
            f"ip addr add {self.gateway}/30 dev {ours}",
            f"ip link set {ours} up",
            f"nsenter -t {pid} -n ip addr add {self.address}/30 dev {theirs}",
            f"nsenter -t {pid} -n ip link set {theirs} up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True, text=True)

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._holder.kill()
        self._holder.wait()

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A process that is in there."""
        inside = ["nsenter", "-t", str(self._holder.pid), "-n", *command]
        return subprocess.Popen(inside, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def reaches(self, address: str) -> bool:
        """Whether a packet from in there would know a way to an address."""
        asked = self.start("ip", "route", "get", address)
        asked.communicate(timeout=20)
        return asked.returncode == 0
