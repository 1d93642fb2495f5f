"""Learning where the data is: devices that belong to an organisation, and the keys that stand for them.

Pitfalls: a certificate proves nothing by itself: whether it was revoked is asked of the database, at every
request. A device's own private keys are never stored here, also where the server has made them.
"""

from tg_workbench.federation.devices.certificate_office import CertificateOffice
from tg_workbench.federation.devices.device_keys import (
    GRACE_SECONDS,
    INTERVAL_DAYS,
    DeviceKeys,
    Forced,
    KeyQuery,
    KeyStatus,
    is_due,
    key_status_of,
)
from tg_workbench.federation.devices.devices import (
    DeviceChange,
    DeviceCounts,
    DeviceQuery,
    Devices,
    DeviceStatus,
    device_status_of,
)
from tg_workbench.federation.devices.enrollment import UPDATE_INTERVAL, Enrolled, Enrollment, NewDevice, Terms
from tg_workbench.federation.devices.enrollment_tokens import EnrollmentTokens
from tg_workbench.federation.devices.key_pairs import KeyPairs, Offer, origin_of
from tg_workbench.federation.devices.server_keys import ServerKeys
from tg_workbench.federation.devices.sign_in import OF_DEVICES, Assertion, DeviceSignIn, SignedDevice
from tg_workbench.federation.devices.tables import Device, DeviceKey, DeviceNonce, EnrollmentToken, ServerKey

__all__ = [
    "GRACE_SECONDS",
    "INTERVAL_DAYS",
    "OF_DEVICES",
    "UPDATE_INTERVAL",
    "Assertion",
    "CertificateOffice",
    "Device",
    "DeviceChange",
    "DeviceCounts",
    "DeviceKey",
    "DeviceKeys",
    "DeviceNonce",
    "DeviceQuery",
    "DeviceSignIn",
    "DeviceStatus",
    "Devices",
    "Enrolled",
    "Enrollment",
    "EnrollmentToken",
    "EnrollmentTokens",
    "Forced",
    "KeyPairs",
    "KeyQuery",
    "KeyStatus",
    "NewDevice",
    "Offer",
    "ServerKey",
    "ServerKeys",
    "SignedDevice",
    "Terms",
    "device_status_of",
    "is_due",
    "key_status_of",
    "origin_of",
]
