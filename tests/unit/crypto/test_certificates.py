"""An authority certifies devices that hold their keys, once whole; what it did not issue does not count."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tg_workbench.crypto.authority_folder import FOLDER, ISSUING, ISSUING_KEY, ROOT, ROOT_KEY
from tg_workbench.crypto.certificates import MOST_BYTES, Authority, Revocation, request_for
from tg_workbench.crypto.signatures import SigningKey
from tg_workbench.errors import AuthorityUnusable, CertificateInvalid

NOW, DAY = 1_800_000_000, 86_400
DEVICE = SigningKey.generate()
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
NOT_OURS = "it was not issued by this workbench to a device"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("home"), NOW)


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.issue(request_for(DEVICE), "dev_1", NOW).pem.encode())


# ----------------------------------------------------------------------------- the authority
def test_an_authority_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = Authority.open(tmp_path, NOW)
    assert Authority.open(tmp_path, NOW + DAY).chain_pem == first.chain_pem
    folder = tmp_path / "keys" / FOLDER
    assert {path.name for path in folder.iterdir()} == {ROOT, ROOT_KEY, ISSUING, ISSUING_KEY}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}
    assert [path.name for path in folder.parent.iterdir()] == [FOLDER]


def test_the_roots_key_may_be_kept_elsewhere(tmp_path: Path) -> None:
    Authority.open(tmp_path, NOW)
    (tmp_path / "keys" / FOLDER / ROOT_KEY).unlink()
    authority = Authority.open(tmp_path, NOW)
    assert authority.verify(authority.issue(DEVICE.public, "dev_1", NOW).pem.encode(), NOW) == "dev_1"


def test_processes_that_open_it_at_once_share_one_authority(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tg_workbench.crypto.certificates import Authority;"
        "print(Authority.open(Path(sys.argv[1])).root.serial_number)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    serials = {process.communicate(timeout=60)[0][:-1] for process in processes}
    assert serials == {str(Authority.open(tmp_path).root.serial_number)}
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [FOLDER]


@pytest.mark.parametrize("file", [ROOT, ISSUING, ISSUING_KEY])
@pytest.mark.parametrize(
    "content", [None, b"", b"junk", b"another's"], ids=["absent", "empty", "junk", "other"]
)
def test_a_damaged_authority_is_refused_and_left_as_it_is(
    tmp_path: Path, file: str, content: bytes | None
) -> None:
    Authority.open(tmp_path / "home", NOW)
    path = tmp_path / "home" / "keys" / FOLDER / file
    if content == b"another's":
        Authority.open(tmp_path / "other", NOW)
        content = (tmp_path / "other" / "keys" / FOLDER / file).read_bytes()
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(AuthorityUnusable, match="keys/device-authority is damaged"):
        Authority.open(tmp_path / "home", NOW)
    assert path.exists() == (content is not None)


def test_an_authority_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / FOLDER).write_text("not a folder")
    with pytest.raises(AuthorityUnusable):
        Authority.open(tmp_path, NOW)
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [FOLDER]


# ----------------------------------------------------------------------------- what it issues
def test_a_certificate_says_what_x509_wants_of_a_device(authority: Authority, leaf: x509.Certificate) -> None:
    def value(kind: type[x509.ExtensionType]) -> x509.ExtensionType:
        return leaf.extensions.get_extension_for_class(kind).value

    key = x509.SubjectKeyIdentifier.from_public_key(DEVICE.public.key)
    assert value(x509.SubjectAlternativeName) == x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier("urn:tg:device:dev_1")]
    )
    assert value(x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)
    assert value(x509.ExtendedKeyUsage) == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    assert value(x509.SubjectKeyIdentifier) == key
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    issuing = authority.issuing.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    identifier = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert identifier.key_identifier == issuing.digest
    assert len(leaf.extensions) == 6


def test_a_certificate_tells_its_facts(authority: Authority) -> None:
    made = authority.issue(request_for(DEVICE), "dev_1", NOW)
    loaded = x509.load_pem_x509_certificate(made.pem.encode())
    assert made.thumbprint == hashlib.sha256(loaded.public_bytes(Encoding.DER)).hexdigest()
    assert int(made.serial, 16) == loaded.serial_number < 2**128
    assert (made.not_before, made.not_after) == (NOW - 300, NOW + 180 * DAY)
    assert made.key.raw == DEVICE.public.raw
    assert authority.verified(made.pem.encode(), NOW) == made


def test_serial_numbers_are_random(authority: Authority) -> None:
    serials = [int(authority.issue(DEVICE.public, "dev_1", NOW).serial, 16) for _ in range(40)]
    assert len(set(serials)) == 40
    assert max(serials).bit_length() > 120


def test_the_chain_leads_from_a_device_to_the_root(authority: Authority, leaf: x509.Certificate) -> None:
    issuing, root = x509.load_pem_x509_certificates(authority.chain_pem.encode())
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    assert [
        c.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length for c in (root, issuing)
    ] == [1, 0]


def test_a_certificate_does_not_outlive_its_authority(authority: Authority) -> None:
    late = int(authority.issuing.not_valid_after_utc.timestamp()) - DAY
    assert authority.issue(DEVICE.public, "dev_1", late).not_after == late + DAY
    with pytest.raises(AuthorityUnusable, match="expired"):
        authority.issue(DEVICE.public, "dev_1", late + DAY)


@pytest.mark.parametrize("device_id", ["", "a" * 101, "dev/1", "dev 1", "dev:1", "dév", "dev_1\n", "urn:x"])
def test_a_strange_id_is_never_certified(authority: Authority, device_id: str) -> None:
    with pytest.raises(CertificateInvalid, match="1 to 100 letters"):
        authority.issue(DEVICE.public, device_id, NOW)


@pytest.mark.parametrize("days", [-1, 0, 826])
def test_a_strange_time_is_never_certified(authority: Authority, days: int) -> None:
    with pytest.raises(CertificateInvalid, match="1 to 825 days"):
        authority.issue(DEVICE.public, "dev_1", NOW, days=days)


# ----------------------------------------------------------------------------- requests
def request_of(key: object, algorithm: object = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(NAME)
    return builder.sign(key, algorithm).public_bytes(Encoding.PEM)  # type: ignore[arg-type]


OTHER_KEYS: dict[str, Callable[[], bytes]] = {
    "ed25519": lambda: request_of(ed25519.Ed25519PrivateKey.generate()),
    "p-256": lambda: request_of(ec.generate_private_key(ec.SECP256R1()), SHA256()),
    "rsa": lambda: request_of(rsa.generate_private_key(65537, 2048), SHA256()),
    "ml-dsa-44": lambda: request_of(mldsa.MLDSA44PrivateKey.generate()),
    "ml-dsa-87": lambda: request_of(mldsa.MLDSA87PrivateKey.generate()),
}


@pytest.mark.parametrize("kind", OTHER_KEYS)
def test_a_request_for_another_kind_of_key_is_refused(authority: Authority, kind: str) -> None:
    with pytest.raises(CertificateInvalid, match="not for a key of ML-DSA-65"):
        authority.issue(OTHER_KEYS[kind](), "dev_1", NOW)


def test_a_request_signed_by_another_key_is_refused(authority: Authority) -> None:
    """The request of one device, with the public key of another put into it: nobody proved to hold that."""
    der = x509.load_pem_x509_csr(request_for(DEVICE)).public_bytes(Encoding.DER)
    edited = der.replace(DEVICE.public.raw, SigningKey.generate().public.raw)
    assert len(edited) == len(der)
    pem = x509.load_der_x509_csr(edited).public_bytes(Encoding.PEM)
    with pytest.raises(CertificateInvalid, match="not signed by the key that it names"):
        authority.issue(pem, "dev_1", NOW)


def test_a_request_with_a_bit_flipped_is_refused(authority: Authority) -> None:
    der = bytearray(x509.load_pem_x509_csr(request_for(DEVICE)).public_bytes(Encoding.DER))
    der[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    with pytest.raises(CertificateInvalid, match="not signed by the key that it names"):
        authority.issue(pem, "dev_1", NOW)


GARBAGE = {
    "nothing": b"",
    "text": b"please",
    "no base64": b"-----BEGIN CERTIFICATE REQUEST-----\n!!!\n-----END CERTIFICATE REQUEST-----\n",
    "no der": b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    "cut off": request_for(DEVICE)[:3000],
    "no end": request_for(DEVICE).rsplit(b"-----END", 1)[0],
    "another thing": DEVICE.public.pem,
    "a private key": DEVICE.pem,
    "not ASCII": b"\xff\xfe" * 100,
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_neither_a_request_nor_a_certificate(authority: Authority, name: str) -> None:
    with pytest.raises(CertificateInvalid, match="cannot be read"):
        authority.issue(GARBAGE[name], "dev_1", NOW)
    with pytest.raises(CertificateInvalid, match="cannot be read"):
        authority.verify(GARBAGE[name].replace(b" REQUEST", b""), NOW)


def test_what_is_huge_is_not_even_read(authority: Authority) -> None:
    huge = request_for(DEVICE) + b"#" * MOST_BYTES
    with pytest.raises(CertificateInvalid, match="more than 16,384 bytes"):
        authority.issue(huge, "dev_1", NOW)
    with pytest.raises(CertificateInvalid, match="more than 16,384 bytes"):
        authority.verify(huge, NOW)


def test_whatever_a_request_asks_for_is_ignored_but_its_key(authority: Authority) -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "administrator")])
    )
    asked: list[x509.ExtensionType] = [
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:tg:device:dev_other")]),
        x509.BasicConstraints(ca=True, path_length=9),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    ]
    for extension in asked:
        builder = builder.add_extension(extension, critical=True)
    pem = builder.sign(DEVICE.key, None).public_bytes(Encoding.PEM)
    made = authority.issue(pem, "dev_1", NOW)
    loaded = x509.load_pem_x509_certificate(made.pem.encode())
    assert authority.verify(made.pem.encode(), NOW) == "dev_1"
    assert loaded.subject.rfc4514_string() == "CN=dev_1"
    assert not loaded.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert b"dev_other" not in loaded.public_bytes(Encoding.DER)


# ----------------------------------------------------------------------------- verifying
@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (NOW - 301, "not good yet"),
        (NOW - 300, None),
        (NOW + 180 * DAY, None),
        (NOW + 180 * DAY + 1, "expired"),
        (NOW + 30 * 365 * DAY, "expired"),
    ],
)
def test_a_certificate_is_good_for_its_time(authority: Authority, moment: int, reason: str | None) -> None:
    pem = authority.issue(DEVICE.public, "dev_1", NOW).pem.encode()
    if reason is None:
        assert authority.verify(pem, moment) == "dev_1"
    else:
        with pytest.raises(CertificateInvalid, match=reason):
            authority.verify(pem, moment)


def test_certificates_of_another_authority_do_not_count(authority: Authority, tmp_path: Path) -> None:
    other = Authority.open(tmp_path, NOW)
    pem = other.issue(DEVICE.public, "dev_1", NOW).pem.encode()
    for moment in (NOW, NOW + 999 * DAY):  # nor is it told that another's has expired
        with pytest.raises(CertificateInvalid, match=NOT_OURS):
            authority.verify(pem, moment)


def test_an_authoritys_own_certificate_is_no_devices(authority: Authority) -> None:
    for certificate in (authority.issuing, authority.root):
        with pytest.raises(CertificateInvalid, match=NOT_OURS):
            authority.verify(certificate.public_bytes(Encoding.PEM), NOW)


def test_a_device_cannot_certify_another(authority: Authority, leaf: x509.Certificate) -> None:
    """Its own certificate is no authority's, whatever it signs with its key."""
    forged = (
        x509.CertificateBuilder(extensions=list(leaf.extensions))
        .subject_name(leaf.subject)
        .issuer_name(leaf.subject)
        .public_key(DEVICE.public.key)
        .serial_number(7)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .sign(DEVICE.key, None)
    )
    with pytest.raises(CertificateInvalid, match=NOT_OURS):
        authority.verify(forged.public_bytes(Encoding.PEM), NOW)


def test_more_than_one_certificate_is_not_a_devices(authority: Authority, leaf: x509.Certificate) -> None:
    one = leaf.public_bytes(Encoding.PEM)
    with pytest.raises(CertificateInvalid, match="and no other"):
        authority.verify(one + one, NOW)


def issued_otherwise(authority: Authority, *left_out: type[x509.ExtensionType], more: object = None) -> bytes:
    """A certificate that our authority signed, but that is not as those of devices are."""
    plain = x509.load_pem_x509_certificate(authority.issue(DEVICE.public, "dev_1", NOW).pem.encode())
    kept = [e for e in plain.extensions if not isinstance(e.value, left_out)]
    builder = x509.CertificateBuilder(
        issuer_name=plain.issuer,
        subject_name=plain.subject,
        public_key=DEVICE.public.key,
        serial_number=plain.serial_number,
        not_valid_before=plain.not_valid_before_utc,
        not_valid_after=plain.not_valid_after_utc,
        extensions=kept,
    )
    if isinstance(more, x509.ExtensionType):
        builder = builder.add_extension(more, critical=False)
    return builder.sign(authority.key.key, None).public_bytes(Encoding.PEM)


OTHERWISE: dict[str, Callable[[Authority], bytes]] = {
    "no name": lambda a: issued_otherwise(a, x509.SubjectAlternativeName),
    "another name": lambda a: issued_otherwise(
        a,
        x509.SubjectAlternativeName,
        more=x509.SubjectAlternativeName([x509.DNSName("device.example")]),
    ),
    "two names": lambda a: issued_otherwise(
        a,
        x509.SubjectAlternativeName,
        more=x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(f"urn:tg:device:dev_{n}") for n in (1, 2)]
        ),
    ),
    "for servers": lambda a: issued_otherwise(
        a, x509.ExtendedKeyUsage, more=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    ),
    "for anything": lambda a: issued_otherwise(a, x509.ExtendedKeyUsage),
    "for more": lambda a: issued_otherwise(
        a,
        x509.ExtendedKeyUsage,
        more=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.CODE_SIGNING]),
    ),
    "an authority": lambda a: issued_otherwise(
        a, x509.BasicConstraints, more=x509.BasicConstraints(ca=True, path_length=None)
    ),
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_what_we_signed_for_another_purpose_is_no_devices(authority: Authority, kind: str) -> None:
    assert authority.verify(issued_otherwise(authority), NOW) == "dev_1"
    with pytest.raises(CertificateInvalid, match="not a device's"):
        authority.verify(OTHERWISE[kind](authority), NOW)


def test_a_certificate_for_a_key_of_another_kind_is_refused(authority: Authority) -> None:
    leaf = x509.load_pem_x509_certificate(authority.issue(DEVICE.public, "dev_1", NOW).pem.encode())
    for key in (ed25519.Ed25519PrivateKey.generate(), mlkem.MLKEM768PrivateKey.generate()):
        builder = x509.CertificateBuilder(
            leaf.issuer,
            leaf.subject,
            key.public_key(),
            7,
            leaf.not_valid_before_utc,
            leaf.not_valid_after_utc,
            [e for e in leaf.extensions if not isinstance(e.value, x509.SubjectKeyIdentifier)],
        )
        with pytest.raises(CertificateInvalid, match="not a device's"):
            authority.verify(builder.sign(authority.key.key, None).public_bytes(Encoding.PEM), NOW)


@pytest.mark.parametrize("place", range(40, 5400, 400))
def test_a_flipped_bit_anywhere_is_refused(authority: Authority, leaf: x509.Certificate, place: int) -> None:
    der = bytearray(leaf.public_bytes(Encoding.DER))
    der[place] ^= 1
    pem = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"
    with pytest.raises(CertificateInvalid):
        authority.verify(pem % base64.b64encode(bytes(der)), NOW)


# ----------------------------------------------------------------------------- revocation
def test_the_list_of_revoked_certificates_is_signed_and_dated(authority: Authority) -> None:
    stolen, old = (authority.issue(DEVICE.public, name, NOW) for name in ("dev_1", "dev_2"))
    revoked = [
        Revocation(stolen.serial, NOW - 60, x509.ReasonFlags.key_compromise),
        Revocation(old.serial, NOW - 30),
    ]
    crl = x509.load_pem_x509_crl(authority.crl(revoked, NOW).encode())
    assert crl.is_signature_valid(authority.issuing.public_key())  # type: ignore[arg-type]
    assert crl.issuer == authority.issuing.subject
    assert crl.last_update_utc == datetime.fromtimestamp(NOW, UTC)
    assert crl.next_update_utc == datetime.fromtimestamp(NOW, UTC) + timedelta(hours=24)
    assert [entry.serial_number for entry in crl] == [int(stolen.serial, 16), int(old.serial, 16)]
    assert crl[0].extensions.get_extension_for_class(x509.CRLReason).value.reason.value == "keyCompromise"
    assert len(crl[1].extensions) == 0


def test_lists_of_revoked_certificates_are_numbered_upwards(authority: Authority) -> None:
    numbers = [
        x509.load_pem_x509_crl(authority.crl([], moment).encode())
        .extensions.get_extension_for_class(x509.CRLNumber)
        .value.crl_number
        for moment in (NOW, NOW + 0.01, NOW + 1)
    ]
    assert numbers == sorted(set(numbers))


def test_no_refusal_repeats_what_was_sent(authority: Authority) -> None:
    with pytest.raises(CertificateInvalid) as refusal:
        authority.issue(DEVICE.public, "secret/../name", NOW)
    assert "secret" not in str(refusal.value)
    assert re.search(r"secret", str(refusal.value.details)) is None
