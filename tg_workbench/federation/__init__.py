"""Learning where the data is: devices that belong to an organisation, and the keys that stand for them.

Pitfalls: a certificate proves nothing by itself: whether it was revoked is asked of the database, at every
request. A device's own private keys are never stored here, also where the server has made them.
"""

from tg_workbench.federation.tables import Device, DeviceKey, DeviceNonce, EnrollmentToken, ServerKey

__all__ = ["Device", "DeviceKey", "DeviceNonce", "EnrollmentToken", "ServerKey"]
