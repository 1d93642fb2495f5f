"""Where a workbench answers, and the key it is asked with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tg_workbench.errors import CallFailed

NO_ADDRESS = (
    "no workbench was found: start JupyterLab with `make lab` and work in a notebook there; or run "
    "`tg-workbench serve` and `tg-workbench keys create --name me`, then "
    "Workbench(base_url='http://localhost:8000', api_key='tgw-…') or set TG_BASE_URL and TG_API_KEY"
)

DOCUMENTS_BASE = "/api/v1"


@dataclass(frozen=True, slots=True)
class Address:
    """A base URL, the Unix socket it is reached through (if any), and the API key."""

    url: str
    socket: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def find(
        cls,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        socket: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Address:
        """What was given, else what the environment says; a notebook's socket comes before a URL.

        A URL may end in `/api/v1`, as documents that are served here write their base URL.
        Raises CallFailed, saying how to start one, when nothing names a workbench.
        """
        values = os.environ if environ is None else environ
        if _is_elsewhere(base_url, socket, values):
            values = {}  # the key in the environment opens the workbench beside this kernel: it stays here
        key = (api_key or values.get("TG_API_KEY") or values.get("TG_TINKER_API_KEY") or "").strip() or None
        if key is not None and not (key.isascii() and key.isprintable()):
            raise CallFailed("this API key holds characters that no key has: copy it again")
        if socket is None and base_url is None:
            socket = values.get("TG_SOCKET") or None
        if socket is not None:
            return cls(_root_of(base_url or "http://workbench"), str(socket), key)
        url = base_url or values.get("TG_BASE_URL") or values.get("TG_TINKER_BASE_URL")
        if not url:
            raise CallFailed(NO_ADDRESS)
        if not url.startswith(("http://", "https://")):
            raise CallFailed(f"base_url must start with http:// or https://, for example http://{url}")
        return cls(_root_of(url), None, key)

    def __str__(self) -> str:
        """For messages: never the key."""
        return self.socket or self.url


def _root_of(url: str) -> str:
    """Where every document begins, not only those whose paths are below /api/v1."""
    return url.rstrip("/").removesuffix(DOCUMENTS_BASE).rstrip("/")


def _is_elsewhere(base_url: str | None, socket: str | None, environ: Mapping[str, str]) -> bool:
    """Whether a URL was given that is another workbench than the one that gave the environment its key."""
    own = environ.get("TG_SOCKET")
    is_another = base_url and _root_of(base_url) != _root_of(environ.get("TG_BASE_URL", ""))
    return bool(own and is_another and socket in (None, ""))
