"""What can go wrong with a device: enrolled, signed in, at work."""

from __future__ import annotations

from tg_workbench.errors.families import (
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Refused,
    Unauthenticated,
    WorkbenchError,
)


class DeviceNotFound(NotFound):
    """No device has this id."""

    def __init__(self) -> None:
        super().__init__("there is no device with this id")


class EnrollmentTokenNotFound(NotFound):
    """No open enrolment token has this id."""

    def __init__(self) -> None:
        super().__init__("there is no open enrollment token with this id")


class EnrollmentTokenExpired(Unauthenticated):
    """An enrolment token that is unknown, used, revoked, past its time or another's; which is not told."""

    def __init__(self) -> None:
        super().__init__("this enrollment token is not good, or no longer: ask for a new one")


class AssertionInvalid(Unauthenticated):
    """What a device has signed to sign in does not show that it is the device, or was shown before."""

    def __init__(self) -> None:
        super().__init__("this is not signed by a key of the device that is good now, or it was used before")


class ClockSkewed(Unauthenticated):
    """A device's clock is too far from ours; `server_time` is what it should have been."""

    def __init__(self, server_time: int, most_seconds: int) -> None:
        super().__init__(
            f"the timestamp is more than {most_seconds} seconds from the server's time: set the clock"
        )
        self.server_time = server_time
        self.most_seconds = most_seconds


class DeviceRevoked(PermissionDenied):
    """Whatever this device shows is good no more."""

    def __init__(self) -> None:
        super().__init__("this device was revoked: it has to be enrolled anew")


class DeviceNotOnline(Refused):
    """A device that would have to be there now, and is not."""

    def __init__(self) -> None:
        super().__init__("this device is not online: it would be locked out. Give it a time of grace")


class DeviceKeysRequired(InvalidRequest):
    """A device that brings no keys of its own, where the server makes none."""

    def __init__(self) -> None:
        super().__init__("send public_keys.encryption and a csr: this workbench makes no keys for devices")


class AssignmentInvalid(WorkbenchError):
    """(Device) What came is not signed by the workbench, or is for another device. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this device does nothing of what it was told: {reason}")
        self.reason = reason


class TermsNotMet(WorkbenchError):
    """(Device) What its workbench asks of it is against its own terms. `reason` says what."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this device takes no part: {reason}")
        self.reason = reason


class DeviceFolderUnusable(WorkbenchError):
    """(Device) A folder that a device cannot live in. `reason` says why."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(f"{folder or 'the folder of this device'}: {reason}")
        self.reason = reason
