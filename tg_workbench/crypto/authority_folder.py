"""The folder that holds the authority: two keys and two certificates, made whole or not at all.

`root-key.pem` is needed for nothing once it has signed the issuing authority, so it may be kept elsewhere.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from tg_workbench.crypto.certificate_parts import builder_for, name_of, points_to, time_of, usage
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.errors import AuthorityUnusable, SigningKeyUnreadable

FOLDER = "device-authority"
ROOT, ROOT_KEY, ISSUING, ISSUING_KEY = "root.pem", "root-key.pem", "issuing.pem", "issuing-key.pem"
ISSUING_DAYS, ROOT_DAYS = 3_650, 7_300
MOST_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class AuthorityFolder:
    """Where the authority lies."""

    path: Path

    def read(self) -> tuple[SigningKey, x509.Certificate, x509.Certificate]:
        """The issuing authority's key and certificate, and the root's. Raises AuthorityUnusable."""
        try:
            key = SigningKey.read(self.path / ISSUING_KEY)
            issuing, root = (self._certificate(file) for file in (ISSUING, ROOT))
            issuing.verify_directly_issued_by(root)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as failure:
            raise self._damaged() from failure
        except (SigningKeyUnreadable, InvalidSignature) as failure:
            raise self._damaged() from failure
        if issuing.public_key() != key.public.key:
            raise self._damaged()
        return key, issuing, root

    def make(self, moment: float) -> None:
        """A complete folder appears; when two processes try at once, the first one's stays."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.parent.chmod(0o700)
        new = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=".new-"))  # mkdtemp makes it 0700
        try:
            for name, content in _parts(moment).items():
                _write(new / name, content)
            new.rename(self.path)
        except OSError as failure:
            if not self.path.exists():
                raise AuthorityUnusable(f"keys/{self.path.name} cannot be written") from failure
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _certificate(self, file: str) -> x509.Certificate:
        with (self.path / file).open("rb") as pem:
            return x509.load_pem_x509_certificate(pem.read(MOST_BYTES))

    def _damaged(self) -> AuthorityUnusable:
        return AuthorityUnusable(f"keys/{self.path.name} is damaged: put your copy of it back")


def _parts(moment: float) -> dict[str, bytes]:
    root_key, key = SigningKey.generate(), SigningKey.generate()
    root = _authority("TG Workbench device root", root_key, moment, ROOT_DAYS).sign(root_key.key, None)
    issuing = _authority("TG Workbench device issuing", key, moment, ISSUING_DAYS, under=root)
    return {
        ROOT_KEY: root_key.pem,
        ROOT: root.public_bytes(Encoding.PEM),
        ISSUING_KEY: key.pem,
        ISSUING: issuing.sign(root_key.key, None).public_bytes(Encoding.PEM),
    }


def _authority(
    name: str, key: SigningKey, moment: float, days: int, under: x509.Certificate | None = None
) -> x509.CertificateBuilder:
    """What is to be signed for an authority: by the root if it stands `under` one, else by itself."""
    builder = builder_for(name, key.public, moment, time_of(moment) + timedelta(days=days))
    signs = x509.BasicConstraints(ca=True, path_length=0 if under else 1)
    builder = builder.issuer_name(under.subject if under else name_of(name)).add_extension(
        signs, critical=True
    )
    builder = builder.add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
    return builder.add_extension(points_to(under), critical=False) if under else builder


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
