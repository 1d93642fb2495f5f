"""The signing key is made once, readable by its owner only; what it has not signed does not verify."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tg_workbench.crypto.signatures import FILE, SigningKey, VerifyingKey
from tg_workbench.errors import QuantumKeyInvalid, SigningKeyUnreadable


def test_the_key_is_made_at_first_use_and_survives(tmp_path: Path) -> None:
    first = SigningKey.open(tmp_path)
    assert SigningKey.open(tmp_path).public.pem == first.public.pem
    assert (tmp_path / "keys" / FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [FILE]


def test_a_signature_holds_for_its_message_its_context_and_its_key(tmp_path: Path) -> None:
    key = SigningKey.open(tmp_path)
    signature = key.sign(b"message", b"context")
    assert len(signature) == 3309
    public = VerifyingKey.of_pem(key.public.pem, "given.pem")
    assert public.key_id == key.public.key_id
    assert public.verifies(signature, b"message", b"context")
    assert not public.verifies(signature, b"another", b"context")
    assert not public.verifies(signature, b"message", b"another")
    assert not public.verifies(signature[:-1] + bytes([signature[-1] ^ 1]), b"message", b"context")
    assert not public.verifies(b"", b"message", b"context")
    assert not SigningKey.open(tmp_path / "other").public.verifies(signature, b"message", b"context")


def test_secrets_for_different_purposes_differ(tmp_path: Path) -> None:
    key = SigningKey.open(tmp_path)
    assert key.derived(b"a") == SigningKey.open(tmp_path).derived(b"a") != key.derived(b"b")


def test_a_file_without_a_key_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    SigningKey.open(tmp_path)
    path = tmp_path / "keys" / FILE
    other = Ed25519PrivateKey.generate()
    for content in (b"", b"junk", other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())):
        path.write_bytes(content)
        with pytest.raises(SigningKeyUnreadable, match=FILE):
            SigningKey.open(tmp_path)
        assert path.read_bytes() == content


def test_a_file_without_a_public_key_is_refused(tmp_path: Path) -> None:
    other = Ed25519PrivateKey.generate().public_key()
    for content in (b"junk", other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)):
        (tmp_path / "given.pem").write_bytes(content)
        with pytest.raises(SigningKeyUnreadable, match=r"given\.pem"):
            VerifyingKey.read(tmp_path / "given.pem")
    with pytest.raises(SigningKeyUnreadable):
        VerifyingKey.read(tmp_path / "absent.pem")


def test_processes_that_open_it_at_once_share_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tg_workbench.crypto.signatures import SigningKey;"
        "print(SigningKey.open(Path(sys.argv[1])).public.key_id)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    names = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert names == {SigningKey.open(tmp_path).public.key_id}


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["audit", "verify"]])
def test_without_ml_dsa_nothing_is_started_and_nothing_verified(command: list[str]) -> None:
    code = (
        "import sys; sys.modules['cryptography.hazmat.primitives.asymmetric.mldsa'] = None;"
        "from tg_workbench.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("tg-workbench: the audit log is signed with ML-DSA-65")


def test_a_device_keeps_its_key_as_a_seed_and_gives_the_public_half_as_bytes() -> None:
    key = SigningKey.generate()
    public = VerifyingKey.from_bytes(key.public.raw)
    assert (len(key.seed), len(key.public.raw)) == (32, 1952)
    assert public.verifies(
        SigningKey.from_seed(key.seed).sign(b"message", b"context"), b"message", b"context"
    )
    assert public.pem == key.public.pem
    assert repr(key.seed) not in repr(key)


@pytest.mark.parametrize("length", [0, 32, 1951, 1953, 1984])
def test_bytes_that_are_no_public_key_are_refused(length: int) -> None:
    with pytest.raises(QuantumKeyInvalid, match="1,952 bytes"):
        VerifyingKey.from_bytes(bytes(length))


def test_a_workbench_may_have_keys_for_several_purposes(tmp_path: Path) -> None:
    receipts = SigningKey.open(tmp_path, "receipt-signing-key.pem")
    assert receipts.public.raw == SigningKey.open(tmp_path, "receipt-signing-key.pem").public.raw
    assert receipts.public.raw != SigningKey.open(tmp_path).public.raw
