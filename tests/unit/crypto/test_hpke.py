"""What is sealed for a key opens with it, whole and in its context; without the algorithm nothing starts."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tg_workbench.crypto.hpke import OVERHEAD_BYTES, OpeningKey, SealingKey
from tg_workbench.errors import QuantumKeyInvalid, SealBroken

KEY = OpeningKey.generate()


@settings(max_examples=25, deadline=None)
@given(plaintext=st.binary(max_size=300), info=st.binary(max_size=100))
def test_what_is_sealed_opens(plaintext: bytes, info: bytes) -> None:
    sealed = SealingKey.from_bytes(KEY.public.raw).seal(plaintext, info)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert OpeningKey.from_seed(KEY.seed).open(sealed, info) == plaintext


def test_two_seals_of_the_same_differ() -> None:
    assert KEY.public.seal(b"same", b"") != KEY.public.seal(b"same", b"")


@pytest.mark.parametrize("place", [0, 500, 1087, 1088, 1119, 1120, 1135, -1])
def test_a_flipped_bit_breaks_the_seal(place: int) -> None:
    sealed = bytearray(KEY.public.seal(b"secret", b"info"))
    sealed[place] ^= 0x40
    with pytest.raises(SealBroken):
        KEY.open(bytes(sealed), b"info")


@pytest.mark.parametrize("length", [0, 1, 1087, 1088, 1119, 1120, 1135, 1136, 1141])
def test_what_is_cut_off_does_not_open(length: int) -> None:
    with pytest.raises(SealBroken):
        KEY.open(KEY.public.seal(b"secret", b"info")[:length], b"info")


def test_another_key_or_info_or_more_bytes_do_not_open_it() -> None:
    sealed = KEY.public.seal(b"secret", b"info")
    for key, bytes_, info in (
        (OpeningKey.generate(), sealed, b"info"),
        (KEY, sealed, b"inf"),
        (KEY, sealed, b""),
        (KEY, sealed + b"\0", b"info"),
        (KEY, sealed[:1088] + bytes(32) + sealed[1120:], b"info"),  # a weak point of X25519
    ):
        with pytest.raises(SealBroken, match="what was sealed for this key"):
            key.open(bytes_, info)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(1215),
        secrets.token_bytes(1217),
        b"\xff" * 1216,
        KEY.public.raw[:-1],
        KEY.public.raw[:1184] + bytes(32),
        KEY.public.raw[:1184] + b"\1" + bytes(31),
        b"\xff\xff" + KEY.public.raw[2:],
    ],
    ids=["none", "short", "long", "not reduced", "cut", "point 0", "point 1", "one coefficient not reduced"],
)
def test_what_is_no_key_is_refused(raw: bytes) -> None:
    with pytest.raises(QuantumKeyInvalid, match="1,216 bytes"):
        SealingKey.from_bytes(raw)


def test_a_key_does_not_tell_its_secret_by_accident() -> None:
    key = OpeningKey.generate()
    assert repr(key.seed) not in repr(key)
    assert key.seed.hex() not in repr(key)


WITHOUT = {
    "no hpke": "sys.modules['cryptography.hazmat.primitives.hpke'] = None",
    "no ml-kem": "sys.modules['cryptography.hazmat.primitives.asymmetric.mlkem'] = None",
    "an hpke without x-wing": "import cryptography.hazmat.primitives.hpke as h;"
    "h.KEM = type('KEM', (), {'X25519': h.KEM.X25519})",
    "a library that cannot": "import cryptography.hazmat.primitives.asymmetric.mlkem as m;"
    "from cryptography.exceptions import UnsupportedAlgorithm;"
    "m.MLKEM768PrivateKey.from_seed_bytes = classmethod("
    "lambda cls, data: (_ for _ in ()).throw(UnsupportedAlgorithm('ML-KEM-768')))",
}


@pytest.mark.parametrize("missing", WITHOUT)
def test_without_the_algorithm_nothing_starts(missing: str) -> None:
    code = (
        f"import sys\n{WITHOUT[missing]}\nfrom tg_workbench.errors import SealingUnavailable\n"
        "try:\n    import tg_workbench.crypto.envelopes\n"
        "except SealingUnavailable as refusal:\n    print(refusal)\n    sys.exit(3)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert ended.stdout.startswith("what devices send is sealed with ML-KEM-768 and X25519: install")
    serves = (
        f"import sys\n{WITHOUT[missing]}\nfrom tg_workbench.__main__ import main\n"
        "sys.exit(main(['serve', '--port', '0']))"
    )
    ended = subprocess.run([sys.executable, "-c", serves], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("tg-workbench: what devices send is sealed with ML-KEM-768 and X25519:")
