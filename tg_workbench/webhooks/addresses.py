"""Addresses: where a message may go. Nothing on this machine or in its networks can be reached through us.

A URL is looked at when it is given, and the address behind its name each time a connection is made: a name
can be pointed elsewhere in between.

**Why** so strict: whoever may subscribe could otherwise have the workbench knock on doors that only it can
see (a cloud's metadata service, a database, Jupyter itself). So: https in production; ports 80, 443 and those
above 1023; no user name in the URL; and only addresses that everybody on the internet can reach. Those that
hold another address inside (IPv4-mapped, 6to4, Teredo, NAT64) are refused whatever is inside. Loopback is for
trying things out, in development, with `TG_WEBHOOK_ALLOW_LOOPBACK=true`.

A URL that could never be called is refused when it is given: its host is a name as the internet has them, or
an address in its usual form. What resolvers take for an address (`127.1`, `0x7f.1`, `2130706433`) is none.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from tg_workbench.errors import InvalidRequest, WorkbenchError
from tg_workbench.settings import Settings

_USUAL_PORTS = (80, 443)
_FIRST_FREE_PORT = 1024
_LOOPBACK_6 = ipaddress.IPv6Address("::1")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_SPECIAL = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # what Azure answers its own machines from
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}", re.ASCII)
_NUMBER = re.compile("[0-9]+|0x[0-9a-f]*", re.ASCII)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(WorkbenchError):
    """A name that stands for an address where no message may go."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far messages may go."""

    https_only: bool = True
    loopback: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Reach:
        """What an operator has chosen."""
        return cls(settings.production, settings.webhook_allow_loopback and not settings.production)

    def check_url(self, url: str) -> None:
        """Raises InvalidRequest for a URL that is none of ours to call, without repeating it."""
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise InvalidRequest("url must be ASCII without spaces: encode names with punycode, paths with %")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as failure:
            raise InvalidRequest("url is not a URL") from failure
        schemes = ("https",) if self.https_only else ("https", "http")
        if parts.scheme not in schemes or not host:
            raise InvalidRequest(f"url must begin with {' or '.join(f'{name}://' for name in schemes)}")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise InvalidRequest("url may hold neither a user name, a password nor a #fragment")
        if port is not None and port not in _USUAL_PORTS and port < _FIRST_FREE_PORT:
            raise InvalidRequest("url's port must be 80, 443 or above 1023")
        self._check_host(parts, host)

    def _check_host(self, parts: SplitResult, host: str) -> None:
        meant = _address_meant(host)
        if meant is not None:
            try:
                self.check_address(meant)
            except AddressRefused as failure:
                raise InvalidRequest(f"url: {failure}") from None
        bracketed = "[" in parts.netloc
        if not ((":" in host and "%" not in host) if bracketed else (meant == host or _is_name(host))):
            raise InvalidRequest(
                "url's host must be a name (letters, digits and hyphens, joined by dots, none at the end) or "
                "an address in its usual form"
            )

    def check_address(self, text: str) -> Address:
        """The address. Raises AddressRefused unless it is public, or loopback where that is allowed."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError as failure:
            raise AddressRefused("this is no address") from failure
        if not _is_public(address) and not (self.loopback and _is_loopback(address)):
            raise AddressRefused("its address is not a public one")
        return address


def _is_name(host: str) -> bool:
    """What ends in a number is an address, or nothing."""
    return _NAME.fullmatch(host) is not None and not _NUMBER.fullmatch(host.rpartition(".")[2])


def _address_meant(host: str) -> str | None:
    """What a resolver would take for an address without asking anybody, in its usual form."""
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return None


def _is_loopback(address: Address) -> bool:
    return address == _LOOPBACK_6 if isinstance(address, ipaddress.IPv6Address) else address.is_loopback


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    odd = address.is_multicast or address.is_reserved or address.is_unspecified
    special = any(network.version == address.version and address in network for network in _SPECIAL)
    return address.is_global and not odd and not special
