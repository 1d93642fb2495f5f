"""Passwords: kept as argon2id, bounded in length, and never worked on more than two at a time.

One verification takes 64 MiB and a core for a tenth of a second or more, which is the point of it; without
the bound, a flood of sign-ins would take the whole machine. A name that nobody has costs exactly the same.
"""

from __future__ import annotations

import base64
import secrets
import threading
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from tg_workbench.errors import PasswordUnfit

if TYPE_CHECKING:
    from pwdlib import PasswordHash

SHORTEST, LONGEST = 8, 128
AT_ONCE = 2
TIME_COST, MEMORY_KIB, LANES = 3, 65_536, 4
"""RFC 9106, second recommended option."""
SALT_BYTES, DIGEST_BYTES = 16, 32
_at_work = threading.BoundedSemaphore(AT_ONCE)


def hash_password(password: str) -> str:
    """What is stored of a password. Raises PasswordUnfit."""
    fit = _fit(password)
    with _at_work:
        return _hasher().hash(fit)


def verify(password: str, stored: str | None) -> bool:
    """Whether `password` is the one whose hash is `stored`; None, for nobody, takes as long and is False.

    One that is stored may be shorter than a new one may be: it may be older than that rule.
    """
    try:
        fit = _fit(password, shortest=0)
    except PasswordUnfit:
        fit, stored = "", None  # takes as long, too: the answer must not tell what was wrong
    with _at_work:
        right = _hasher().verify(fit, stored or _nobodys())
    return right and stored is not None


def needs_rehash(stored: str) -> bool:
    """Whether `stored` was made with other costs than today's."""
    return _hasher().current_hasher.check_needs_rehash(stored)


def _fit(password: str, *, shortest: int = SHORTEST) -> str:
    """The password in the one form that every keyboard's spelling of it has (NIST SP 800-63B: NFKC)."""
    normal = unicodedata.normalize("NFKC", password[: 4 * LONGEST])
    if not shortest <= len(normal) <= LONGEST:
        raise PasswordUnfit(f"a password has {SHORTEST} to {LONGEST} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in normal):
        raise PasswordUnfit("a password holds no control characters")
    return normal


@cache
def _hasher() -> PasswordHash:
    from pwdlib import PasswordHash  # here: the start need not wait for argon2
    from pwdlib.hashers.argon2 import Argon2Hasher

    return PasswordHash((Argon2Hasher(TIME_COST, MEMORY_KIB, LANES, DIGEST_BYTES, SALT_BYTES),))


@cache
def _nobodys() -> str:
    """A hash that no password has, with today's costs: drawn, not computed, so its first use is no slower."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")
        for size in (SALT_BYTES, DIGEST_BYTES)
    )
    return f"$argon2id$v=19$m={MEMORY_KIB},t={TIME_COST},p={LANES}${salt}${digest}"
