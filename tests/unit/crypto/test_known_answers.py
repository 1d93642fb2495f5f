"""Our keys, seals and signatures are those of FIPS 203 and 204, X-Wing and RFC 9180: the public vectors."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tg_workbench.crypto.hpke import OpeningKey, SealingKey
from tg_workbench.crypto.signatures import SigningKey, VerifyingKey
from tg_workbench.errors import QuantumKeyInvalid, SealBroken

RESOURCES = Path(__file__).parent / "resources"
X_WING, HKDF_SHA256, AES_256_GCM = 0x647A, 1, 2
X_WING_LABEL = bytes.fromhex("5c2e2f2f5e5c")


def vectors(name: str) -> list[Any]:
    """The vectors of a file, numbered; every hex text as bytes."""
    rows = json.loads((RESOURCES / name).read_text())["vectors"]
    read = [{k: bytes.fromhex(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    return [pytest.param(row, id=str(number)) for number, row in enumerate(read)]


def key_schedule(shared: bytes, info: bytes, aead_id: int, nk: int = 32) -> tuple[bytes, bytes]:
    """RFC 9180, section 5.1, base mode: the key and the base nonce, written out apart from the library."""
    suite = b"HPKE" + b"".join(n.to_bytes(2, "big") for n in (X_WING, HKDF_SHA256, aead_id))

    def extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")

    def expand(prk: bytes, label: bytes, context: bytes, length: int) -> bytes:
        labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context
        return HKDFExpand(SHA256(), length, labelled).derive(prk)

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return expand(secret, b"key", context, nk), expand(secret, b"base_nonce", context, 12)


def sealed_by_hand(enc: bytes, shared: bytes, info: bytes, plaintext: bytes) -> bytes:
    """What somebody else's HPKE would send."""
    key, nonce = key_schedule(shared, info, AES_256_GCM)
    return enc + AESGCM(key).encrypt(nonce, plaintext, b"")


@pytest.mark.parametrize("vector", vectors("hpke_x_wing.json"))
def test_a_seed_gives_the_key_that_x_wing_says(vector: dict[str, Any]) -> None:
    key = OpeningKey.from_seed(vector["skRm"])
    assert key.public.raw == vector["pkRm"]
    assert key.seed == vector["skRm"]
    assert SealingKey.from_bytes(vector["pkRm"]) == key.public


@pytest.mark.parametrize("vector", vectors("hpke_x_wing.json"))
def test_what_another_hpke_sealed_opens(vector: dict[str, Any]) -> None:
    """The vector's own cipher is another, so its encapsulation is taken on to ours by the RFC's words."""
    sealed = sealed_by_hand(vector["enc"], vector["shared_secret"], vector["info"], b"plaintext")
    key = OpeningKey.from_seed(vector["skRm"])
    assert key.open(sealed, vector["info"]) == b"plaintext"
    with pytest.raises(SealBroken):
        key.open(sealed, vector["info"] + b"x")


def test_the_key_schedule_written_out_here_is_the_vectors() -> None:
    (vector,) = [p.values[0] for p in vectors("hpke_x_wing.json") if p.values[0]["kdf_id"] == HKDF_SHA256]
    made = key_schedule(vector["shared_secret"], vector["info"], vector["aead_id"])
    assert made == (vector["key"], vector["base_nonce"])


@pytest.mark.parametrize("vector", vectors("ml_kem_768.json"))
def test_ml_kem_768_decapsulates_what_fips_203_says(vector: dict[str, bytes]) -> None:
    """X-Wing's other half is made here, so that the vector's ciphertext comes in by the front door."""
    mlkem, x25519 = MLKEM768PrivateKey.from_seed_bytes(vector["d"] + vector["z"]), X25519PrivateKey.generate()
    raw = vector["public"] + x25519.public_key().public_bytes_raw()
    key = OpeningKey(b"", MLKEM768X25519PrivateKey(mlkem, x25519), SealingKey.from_bytes(raw))
    ephemeral = X25519PrivateKey.generate()
    ours, theirs = ephemeral.public_key().public_bytes_raw(), x25519.public_key()
    joined = vector["shared"] + ephemeral.exchange(theirs) + ours + theirs.public_bytes_raw() + X_WING_LABEL
    shared = hashlib.sha3_256(joined).digest()
    assert mlkem.public_key().public_bytes_raw() == vector["public"]
    assert key.open(sealed_by_hand(vector["ciphertext"] + ours, shared, b"info", b"text"), b"info") == b"text"
    assert key.open(key.public.seal(b"back", b"info"), b"info") == b"back"


@pytest.mark.parametrize("vector", vectors("ml_kem_768.json"))
def test_another_ciphertext_of_ml_kem_768_is_refused_and_not_told_apart(vector: dict[str, bytes]) -> None:
    key = OpeningKey.generate()
    other = vector["ciphertext"] + X25519PrivateKey.generate().public_key().public_bytes_raw()
    with pytest.raises(SealBroken):
        key.open(sealed_by_hand(other, vector["shared"], b"info", b"text"), b"info")


@pytest.mark.parametrize("vector", vectors("ml_dsa_65.json"))
def test_ml_dsa_65_makes_the_keys_and_takes_the_signatures_of_fips_204(vector: dict[str, bytes]) -> None:
    key, public = SigningKey.from_seed(vector["seed"]), VerifyingKey.from_bytes(vector["public"])
    message, context = vector["message"], vector["context"]
    assert key.public.raw == vector["public"]
    assert public.verifies(vector["signature"], message, context)
    assert public.verifies(key.sign(message, context), message, context)


@pytest.mark.parametrize("place", [0, 47, 48, 1600, 3247, 3248, 3300, 3308])
@pytest.mark.parametrize("vector", vectors("ml_dsa_65.json")[:2])
def test_a_signature_with_a_bit_flipped_is_none(vector: dict[str, bytes], place: int) -> None:
    """In the challenge, in the response, in the hint and in its padding."""
    edited = bytearray(vector["signature"])
    edited[place] ^= 1
    public = VerifyingKey.from_bytes(vector["public"])
    assert not public.verifies(bytes(edited), vector["message"], vector["context"])


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: b"",
        lambda s: s[:-1],
        lambda s: s + b"\0",
        lambda s: s[:48] + bytes(3200) + s[3248:],
        lambda s: s[:48] + b"\xff" * 3200 + s[3248:],
        lambda s: s[:3248] + b"\xff" * 61,
        lambda s: hashlib.sha256(s).digest(),
        lambda s: bytes(3309),
    ],
    ids=["nothing", "shorter", "longer", "response 0", "response too large", "bad hint", "a digest", "zeros"],
)
def test_what_is_no_signature_is_taken_as_none(edit: Any) -> None:
    vector = vectors("ml_dsa_65.json")[0].values[0]
    public = VerifyingKey.from_bytes(vector["public"])
    assert not public.verifies(edit(vector["signature"]), vector["message"], vector["context"])


@pytest.mark.parametrize("vector", vectors("ml_dsa_65.json"))
def test_a_signature_counts_for_its_message_context_and_key_only(vector: dict[str, bytes]) -> None:
    public, signature = VerifyingKey.from_bytes(vector["public"]), vector["signature"]
    assert not public.verifies(signature, vector["message"] + b"\0", vector["context"])
    assert not public.verifies(signature, vector["message"], b"")
    other = SigningKey.from_seed(secrets.token_bytes(32)).public
    assert not other.verifies(signature, vector["message"], vector["context"])


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    for make in (SigningKey.from_seed, OpeningKey.from_seed):
        with pytest.raises(QuantumKeyInvalid, match="32 bytes"):
            make(bytes(length))


@pytest.mark.parametrize("file", ["hpke_x_wing.json", "ml_kem_768.json", "ml_dsa_65.json"])
def test_the_vectors_say_where_they_are_from(file: str) -> None:
    assert "Apache-2.0 OR BSD-3-Clause" in json.loads((RESOURCES / file).read_text())["source"]
