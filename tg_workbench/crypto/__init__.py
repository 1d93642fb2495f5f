"""Cryptography in standard forms only: AES-256-GCM, SHA-256, argon2id, JWT, keys from the system.

Pitfalls: a seal binds bytes to a context; pass the same context when you open it, or it does not hold.
"""

from tg_workbench.crypto.keyring import Keyring
from tg_workbench.crypto.sealing import KEY_BYTES, new_key, open_pieces, open_sealed, seal, seal_pieces

__all__ = ["KEY_BYTES", "Keyring", "new_key", "open_pieces", "open_sealed", "seal", "seal_pieces"]
