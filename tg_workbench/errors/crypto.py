"""What can go wrong with keys, certificates, signatures and envelopes."""

from __future__ import annotations

from tg_workbench.errors.families import InvalidRequest, WorkbenchError


class QuantumKeyInvalid(InvalidRequest):
    """Bytes that should be a key of ML-KEM-768 and X25519, or of ML-DSA-65, are none."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"this is no usable key: {expected}")
        self.expected = expected


class CertificateInvalid(InvalidRequest):
    """A certificate, or a request for one, that does not count here. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this certificate does not count: {reason}")
        self.reason = reason


class EnvelopeBroken(InvalidRequest):
    """A sealed update that is not what its device signed, or is none. `reason` says which check it failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this envelope is refused: {reason}")
        self.reason = reason


class KeysUnreadable(WorkbenchError):
    """A file of keys cannot be used, so what was sealed or signed with them cannot be opened or believed."""

    def __init__(self, file: str) -> None:
        super().__init__(
            f"{file} in TG_HOME does not hold this workbench's keys: put your copy of it back. Without its "
            "key-encryption keys no checkpoint opens; without its token keys everybody has to sign in again"
        )


class SigningKeyUnreadable(WorkbenchError):
    """A file that should hold a key of ML-DSA-65 holds none that can be used."""

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} does not hold a key of ML-DSA-65: put your copy of it back")
        self.file = file


class SignaturesUnavailable(WorkbenchError):
    """Signatures of ML-DSA-65 cannot be made here. Nothing weaker takes their place."""

    def __init__(self) -> None:
        super().__init__("the audit log is signed with ML-DSA-65: install cryptography 50 or newer")


class SealingUnavailable(WorkbenchError):
    """Nothing can be sealed with ML-KEM-768 and X25519 here. Nothing weaker takes their place."""

    def __init__(self) -> None:
        super().__init__(
            "what devices send is sealed with ML-KEM-768 and X25519: install cryptography 50 or newer"
        )


class AuthorityUnusable(WorkbenchError):
    """The authority that certifies devices cannot be used. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the authority for devices' certificates cannot be used: {reason}")
        self.reason = reason
