"""A keyring: keys of one workbench for one purpose, in one file that only its owner may read.

The newest key wraps or signs; older ones still unwrap and verify, so rotating loses nothing. The file is made
at first use, whole or not at all, also when two processes try at once.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tg_workbench.crypto.sealing import KEY_BYTES, new_key
from tg_workbench.errors import KeysUnreadable, SealBroken

FILE = "key-encryption-keys.json"
"""The keys that wrap data keys."""
SIGNING_FILE = "access-token-keys.json"
"""The keys that sign access tokens."""
_KINDS = {FILE: "kek", SIGNING_FILE: "sig"}


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys by id, the newest first. Copy its file with your backups, but apart from them."""

    keys: dict[str, bytes]

    @classmethod
    def open(cls, home: Path, file: str = FILE) -> Keyring:
        """The keyring in `home/keys`, made now if there is none. Raises KeysUnreadable."""
        folder = home / "keys"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        path = folder / file
        if not path.exists():
            _write(path, {_new_id(file): new_key()}, replace=False)
        path.chmod(0o600)
        return cls(_read(path))

    @classmethod
    def rotate(cls, home: Path, file: str = FILE) -> Keyring:
        """Put a new key in front; what the older ones wrapped or signed stays good."""
        _write(home / "keys" / file, {_new_id(file): new_key(), **cls.open(home, file).keys}, replace=True)
        return cls.open(home, file)

    @property
    def newest(self) -> tuple[str, bytes]:
        """The id and the key that new things are wrapped with."""
        return next(iter(self.keys.items()))

    def get(self, key_id: str) -> bytes:
        """The key. Raises SealBroken when it is not on this ring, so nothing it wrapped can be opened."""
        if key_id not in self.keys:
            raise SealBroken
        return self.keys[key_id]


def _new_id(file: str) -> str:
    return f"{_KINDS[file]}-{secrets.token_hex(8)}"


def _read(path: Path) -> dict[str, bytes]:
    try:
        keys = {
            entry["id"]: base64.b64decode(entry["key"]) for entry in json.loads(path.read_bytes())["keys"]
        }
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise KeysUnreadable(f"keys/{path.name}") from failure
    if not keys or any(len(key) != KEY_BYTES for key in keys.values()):
        raise KeysUnreadable(f"keys/{path.name}")
    return keys


def _write(path: Path, keys: dict[str, bytes], *, replace: bool) -> None:
    """A complete file appears under its name; without `replace`, whoever came first wins."""
    entries = [{"id": key_id, "key": base64.b64encode(key).decode()} for key_id, key in keys.items()]
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mkstemp makes it 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump({"keys": entries}, file)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            _link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return  # another process made it a moment ago: its keys are the keys
