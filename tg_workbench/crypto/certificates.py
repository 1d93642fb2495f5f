"""Certificates of devices: X.509 under ML-DSA-65 (RFC 9881), from an authority of this workbench's own.

A root signs an issuing authority, which signs devices and the list of those revoked. A request for a
certificate proves that whoever asks holds the key, and nothing else in it counts: the name and every
extension are ours.

Pitfalls: a certificate that verifies may be revoked; ask whoever keeps the devices on every request.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from tg_workbench.crypto.authority_folder import FOLDER, AuthorityFolder
from tg_workbench.crypto.certificate_parts import builder_for, name_of, points_to, time_of, usage
from tg_workbench.crypto.signatures import ALGORITHM, SigningKey, VerifyingKey
from tg_workbench.errors import AuthorityUnusable, CertificateInvalid, QuantumKeyInvalid

URI = "urn:tg:device:"
MOST_BYTES = 16_384
"""Ours have some 7,600 characters, and requests as many; what is longer is not even read."""
DAYS, MOST_DAYS = 180, 825
CRL_HOURS = 24
_Loaded = TypeVar("_Loaded")
_NOT_READABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.ExtensionNotFound)
_DEVICE_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A device's certificate, and what it says."""

    pem: str
    device_id: str
    serial: str
    """128 random bits in hex."""
    not_before: int
    not_after: int
    thumbprint: str
    """The SHA-256 of its DER form, in hex."""
    key: VerifyingKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Revocation:
    """Which certificate no longer counts, since when, and why."""

    serial: str
    moment: float
    reason: x509.ReasonFlags = x509.ReasonFlags.unspecified


@dataclass(frozen=True, slots=True)
class Authority:
    """Who certifies devices."""

    key: SigningKey = field(repr=False)
    issuing: x509.Certificate
    root: x509.Certificate

    @classmethod
    def open(cls, home: Path, moment: float | None = None) -> Authority:
        """The authority in `home/keys`, made now if there is none. Raises AuthorityUnusable."""
        folder = AuthorityFolder(home / "keys" / FOLDER)
        if not folder.path.exists():
            folder.make(time.time() if moment is None else moment)
        return cls(*folder.read())

    @property
    def chain_pem(self) -> str:
        """The issuing authority's certificate, then the root's: what a device needs beside its own."""
        return (self.issuing.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM)).decode()

    def issue(
        self, asked: bytes | VerifyingKey, device_id: str, moment: float, *, days: int = DAYS
    ) -> Certificate:
        """A certificate for the key of a request (PEM), or for a key that was proven in another way.

        Raises CertificateInvalid, and AuthorityUnusable once the authority's own time is over.
        """
        key = asked if isinstance(asked, VerifyingKey) else requested_key(asked)
        if _DEVICE_ID.fullmatch(device_id) is None:
            raise CertificateInvalid("a device's id has 1 to 100 letters, digits, dashes and underscores")
        if not 1 <= days <= MOST_DAYS:
            raise CertificateInvalid(f"a certificate is good for 1 to {MOST_DAYS} days")
        end = min(time_of(moment) + timedelta(days=days), self.issuing.not_valid_after_utc)
        if end <= time_of(moment):
            raise AuthorityUnusable("its own certificate has expired")
        builder = builder_for(device_id, key, moment, end).issuer_name(self.issuing.subject)
        for extension, critical in _of_a_device(device_id):
            builder = builder.add_extension(extension, critical)
        builder = builder.add_extension(points_to(self.issuing), critical=False)
        return _facts(builder.sign(self.key.key, None))

    def verify(self, pem: bytes, moment: float) -> str:
        """The id of the device whose certificate this is, at that moment. Raises CertificateInvalid."""
        return self.verified(pem, moment).device_id

    def verified(self, pem: bytes, moment: float) -> Certificate:
        """What a certificate says, if it is ours and good at that moment. Raises CertificateInvalid."""
        leaf = _loaded(x509.load_pem_x509_certificates, pem, "it cannot be read")
        if len(leaf) != 1:
            raise CertificateInvalid("send the device's own certificate, and no other")
        policy = PolicyBuilder().store(Store([self.root])).time(time_of(moment)).max_chain_depth(1)
        policy = policy.extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=_DEVICES)
        try:
            policy.build_client_verifier().verify(leaf[0], [self.issuing])
            return _facts(leaf[0])
        except (VerificationError, QuantumKeyInvalid, *_NOT_READABLE) as failure:
            raise CertificateInvalid(self._why_not(leaf[0], moment)) from failure

    def crl(self, revoked: Iterable[Revocation], moment: float, *, hours: int = CRL_HOURS) -> str:
        """The signed list of certificates that no longer count, for those who cannot ask us (PEM)."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.issuing.subject)
            .last_update(time_of(moment))
            .next_update(time_of(moment) + timedelta(hours=hours))
            .add_extension(x509.CRLNumber(int(moment * 1000)), critical=False)  # later is higher
            .add_extension(points_to(self.issuing), critical=False)
        )
        for entry in revoked:
            builder = builder.add_revoked_certificate(_entry(entry))
        return builder.sign(self.key.key, None).public_bytes(Encoding.PEM).decode()

    def _why_not(self, leaf: x509.Certificate, moment: float) -> str:
        """Only of one that we issued is more told than that we did not."""
        try:
            leaf.verify_directly_issued_by(self.issuing)
        except (InvalidSignature, *_NOT_READABLE):
            return "it was not issued by this workbench to a device"
        if time_of(moment) > leaf.not_valid_after_utc:
            return "it has expired"
        if time_of(moment) < leaf.not_valid_before_utc:
            return "it is not good yet: look at the clock"
        return "it is not a device's, or the authority's own has expired"


def request_for(key: SigningKey) -> bytes:
    """A request for a certificate (PEM), as a device sends it: it proves that its sender holds the key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name_of("device"))
    return builder.sign(key.key, None).public_bytes(Encoding.PEM)


def requested_key(pem: bytes) -> VerifyingKey:
    """The key in a request, which signed the request itself. Raises CertificateInvalid."""
    request = _loaded(x509.load_pem_x509_csr, pem, "the request for it cannot be read")
    try:
        key, proven = VerifyingKey.of(request.public_key()), request.is_signature_valid
    except (QuantumKeyInvalid, *_NOT_READABLE) as failure:
        raise CertificateInvalid(f"the request for it is not for a key of {ALGORITHM}") from failure
    if not proven:
        raise CertificateInvalid("the request for it was not signed by the key that it names")
    return key


def _loaded(load: Callable[[bytes], _Loaded], pem: bytes, otherwise: str) -> _Loaded:
    if len(pem) > MOST_BYTES:
        raise CertificateInvalid(f"there are more than {MOST_BYTES:,} bytes of it")
    try:
        return load(pem)
    except _NOT_READABLE as failure:
        raise CertificateInvalid(otherwise) from failure


def _facts(leaf: x509.Certificate) -> Certificate:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith(URI):
        raise CertificateInvalid("it is not a device's")
    return Certificate(
        pem=leaf.public_bytes(Encoding.PEM).decode(),
        device_id=uris[0].removeprefix(URI),
        serial=f"{leaf.serial_number:032x}",
        not_before=int(leaf.not_valid_before_utc.timestamp()),
        not_after=int(leaf.not_valid_after_utc.timestamp()),
        thumbprint=hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest(),
        key=VerifyingKey.of(leaf.public_key()),
    )


def _for_clients(policy: Policy, leaf: x509.Certificate, usage: x509.ExtendedKeyUsage) -> None:
    if list(usage) != [ExtendedKeyUsageOID.CLIENT_AUTH]:
        raise ValueError("its key is not for a client, or not only")


_DEVICES = ExtensionPolicy.webpki_defaults_ee().require_present(
    x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _for_clients
)
"""As certificates of the web are checked, and what they are for has to be said."""


def _entry(revocation: Revocation) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder()
    builder = builder.serial_number(int(revocation.serial, 16)).revocation_date(time_of(revocation.moment))
    if revocation.reason is not x509.ReasonFlags.unspecified:  # RFC 5280 leaves that one out
        builder = builder.add_extension(x509.CRLReason(revocation.reason), critical=False)
    return builder.build()


def _of_a_device(device_id: str) -> list[tuple[x509.ExtensionType, bool]]:
    """What makes a certificate a device's, and whether whoever does not know it must refuse."""
    return [
        (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI + device_id)]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    ]
