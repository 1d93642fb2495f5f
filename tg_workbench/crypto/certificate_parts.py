"""What certificates are made of: names, times, and the extensions that several of them have."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import NameOID

from tg_workbench.crypto.signatures import VerifyingKey

BACKDATED_SECONDS = 300
"""How far behind ours the clock of whoever reads a new certificate may be."""


def builder_for(name: str, key: VerifyingKey, moment: float, end: datetime) -> x509.CertificateBuilder:
    """What every certificate has: a name, a key, 128 random bits as its number, and its time."""
    return (
        x509.CertificateBuilder()
        .subject_name(name_of(name))
        .public_key(key.key)
        .serial_number(secrets.randbits(128) or 1)
        .not_valid_before(time_of(moment) - timedelta(seconds=BACKDATED_SECONDS))
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.key), critical=False)
    )


def points_to(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Which authority's key a signature is to be checked with."""
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """What a key may be used for, and nothing else."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def name_of(text: str) -> x509.Name:
    """A name of one part."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def time_of(moment: float) -> datetime:
    """Seconds since 1970 as X.509 wants them."""
    return datetime.fromtimestamp(int(moment), UTC)
