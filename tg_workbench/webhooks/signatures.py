"""Signatures: how a receiver knows that a message is ours, unchanged, and not an old one.

Three forms, all HMAC-SHA256, because receivers differ in what they check:

- the member `signature`: `sha256=` and the hex HMAC, keyed with the whole secret as text, of the body without
  that member in canonical form: compact JSON in ASCII, members sorted by name, however deep. In Python:

      body = json.loads(request_body)
      signature = body.pop("signature")
      payload = json.dumps(body, sort_keys=True, separators=(",", ":"))
      verify_webhook(payload, signature, secret)

- the header `X-Webhook-Signature`: the same over the exact bytes of the request's body.
- `webhook-id`, `webhook-timestamp`, `webhook-signature`: Standard Webhooks, for which there are libraries.

While an old secret is still good, `webhook-signature` holds a signature by each, and
`X-Webhook-Signature-Previous` is the second form by the old one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """A secret for one subscription, in the form that Standard Webhooks gives it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def canonical(body: dict[str, Any]) -> str:
    """The one text that a body has."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def signed_body(content: str, secret: str) -> bytes:
    """The bytes to send: canonical `content`, joined by the signature over it."""
    return canonical({**json.loads(content), "signature": signature(content.encode(), secret)}).encode()


def signature(content: bytes, secret: str) -> str:
    """`sha256=` and the HMAC in hex."""
    return "sha256=" + hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def headers(message_id: str, body: bytes, good: Sequence[str], at: float) -> dict[str, str]:
    """The headers that go with `body`, signed by each of the `good` secrets, the current one first."""
    time = datetime.fromtimestamp(int(at), UTC)
    standard = [Webhook(secret).sign(message_id, time, body.decode()) for secret in good]
    own = {"X-Webhook-Signature": signature(body, good[0])}
    if len(good) > 1:
        own["X-Webhook-Signature-Previous"] = signature(body, good[1])
    return {
        **own,
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(standard),
    }
