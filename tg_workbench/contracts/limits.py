"""Rate limits, as QFLARE and the Deep Learning Platform document them; the other documents have none.

A good credential is counted for its principal, anything else for the address it came from: an IPv6 address
for its network of 64 bits, because whoever has one has all of them. Windows are fixed and begin with their
first request, so exactly as many pass as the document says. Probes and pages are never counted.
"""

from __future__ import annotations

import ipaddress
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tg_workbench.contracts.counters import Counters
from tg_workbench.errors import RateLimited, TooManyVisits
from tg_workbench.settings import Settings

Kind = Literal["users", "api_keys", "devices", "strangers"]
RULES: Mapping[str, Mapping[Kind, RateLimitItem]] = {
    "qflare": {
        "users": RateLimitItemPerHour(1000),
        "api_keys": RateLimitItemPerHour(5000),
        "devices": RateLimitItemPerMinute(100),
        "strangers": RateLimitItemPerHour(60),
    },
    "deep_learning": {
        "users": RateLimitItemPerHour(1000),
        "api_keys": RateLimitItemPerHour(1000),
        "strangers": RateLimitItemPerHour(100),
    },
}
DEVICE_PATHS = re.compile(
    r"/api/v1/devices(/.*)?|/api/v1/fl/rounds/[^/]+/(join|submit)|/workbench/v1/devices/token"
)
"""What QFLARE calls device endpoints: the devices themselves, and what a device does in a round.

Where a device signs in is ours, and counted with them; so is every route that only a device may take."""
VISITS = RateLimitItemPerMinute(60)
"""How often one address may come to sign in or register, in any contract and whatever TG_RATE_LIMITS says."""
RELAXED = 10
"""How many times as much `TG_RATE_LIMITS=relaxed` lets through: the document's staging."""
PROBES = frozenset({"/health", "/ready", "/live", "/version", "/api/v1/health"})
"""What watchers ask all day: not counted, and not in the log."""
CONTRACT, WINDOW = "tg_contract", "tg_window"
"""Where the request's scope holds them."""


@dataclass(frozen=True, slots=True)
class Window:
    """One caller's window: how many requests fit in, how many there were, when the next one begins."""

    rule: RateLimitItem
    used: int
    resets_at: float

    @property
    def remaining(self) -> int:
        """How many more pass."""
        return max(0, self.rule.amount - self.used)

    def refuse_beyond(self) -> None:
        """Raises RateLimited when the request that was counted last has no room."""
        if self.used > self.rule.amount:
            raise RateLimited(
                limit=self.rule.amount,
                window_seconds=self.rule.get_expiry(),
                retry_after=max(1, math.ceil(self.resets_at - time.time())),
            )


class Limits:
    """The rate limits of a workbench."""

    def __init__(self, settings: Settings) -> None:
        self.counters = Counters(settings.redis_url)
        self.rules = _rules(settings)

    async def count(self, contract: str, kind: Kind, who: str) -> Window:
        """Count one request of `who`, in a contract that has `rules`."""
        rule = self.rules[contract][kind]
        return Window(rule, *await self.counters.count(rule, contract, kind, who))

    async def count_visit(self, address: str) -> None:
        """Count somebody who comes to sign in or to register. Raises TooManyVisits."""
        used, resets_at = await self.counters.count(VISITS, "visits", address)
        if used > VISITS.amount:
            left = max(1, math.ceil(resets_at - time.time()))
            raise TooManyVisits(limit=VISITS.amount, window_seconds=VISITS.get_expiry(), retry_after=left)


class LimitHeaders:
    """Says on every answer that was counted how many requests are left, in its contract's form."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, and add to the headers of what comes back."""

        async def add(message: Message) -> None:
            window: Window | None = scope.get(WINDOW)
            if window is not None and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_headers(window, scope[CONTRACT].name)]
            await send(message)

        await self.app(scope, receive, add)


def address_in(connection: HTTPConnection) -> str | None:
    """What a stranger is counted by; None on a Unix socket, where nobody is but this machine's own user.

    A proxy that reaches it for others is named in `TG_TRUSTED_PROXIES`, and then says for whom.
    """
    if connection.client is not None:
        return address_of(connection.client.host)
    return None if is_unix(connection.scope) else "unknown"


def is_unix(scope: Scope) -> bool:
    """Whether a connection came in by a Unix socket."""
    server = scope.get("server")
    return server is None or server[1] is None


def address_of(host: str) -> str:
    """An address as strangers are counted by it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)


def _headers(window: Window, contract: str) -> list[tuple[bytes, bytes]]:
    """The reset is a time as ISO 8601 has it for QFLARE, and seconds since 1970 for the others."""
    reset = math.ceil(window.resets_at)
    iso = datetime.fromtimestamp(reset, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        (b"x-ratelimit-limit", str(window.rule.amount).encode()),
        (b"x-ratelimit-remaining", str(window.remaining).encode()),
        (b"x-ratelimit-reset", (iso if contract == "qflare" else str(reset)).encode()),
    ]


def _rules(settings: Settings) -> Mapping[str, Mapping[Kind, RateLimitItem]]:
    if settings.rate_limits == "off":
        return {}
    if settings.rate_limits == "on":
        return RULES
    return {
        contract: {kind: type(rule)(rule.amount * RELAXED) for kind, rule in rules.items()}
        for contract, rules in RULES.items()
    }
