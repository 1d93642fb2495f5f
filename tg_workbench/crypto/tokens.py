"""API keys as text: `tgw-` and 32 random bytes. Only the SHA-256 of a key is ever stored.

A random key of 256 bits needs no slow hash: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

PREFIX = "tgw-"
TINKER_PREFIX = "tml-"
"""Tinker clients insist on it, so `tml-tgw-…` is the same key as `tgw-…`."""
_FORM = re.compile(r"tgw-[A-Za-z0-9_-]{43}")


def new_api_key() -> str:
    """A new key, to be shown once."""
    return PREFIX + secrets.token_urlsafe(32)


def bare(credential: str) -> str:
    """The credential without the prefix that Tinker clients put before it."""
    return credential.removeprefix(TINKER_PREFIX)


def looks_like_api_key(credential: str) -> bool:
    """Whether it has the form of our keys; what has not need not be looked up."""
    return _FORM.fullmatch(credential) is not None


def digest(api_key: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(api_key.encode("utf-8", "replace")).hexdigest()


def same(left: str, right: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))
