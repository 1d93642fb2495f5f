"""A signature holds for the message it was made for, and for no other."""

from __future__ import annotations

import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.webhook_receiver import Received, is_genuine, verify_webhook
from tg_workbench.webhooks.signatures import canonical, headers, new_secret, signed_body

BODY = {"event": "device.offline", "timestamp": "2026-01-01T00:00:00Z", "data": {"b": [1.5, "ü"], "a": None}}


def message(secrets: list[str], *, at: float | None = None) -> Received:
    body = signed_body(canonical(BODY), secrets[0])
    made = headers("msg-1", body, secrets, time.time() if at is None else at)
    return Received({name.lower(): value for name, value in made.items()}, body)


def test_a_message_holds_for_the_documents_code_and_for_the_library() -> None:
    secret = new_secret()
    assert is_genuine(message([secret]), secret)


def test_the_body_is_the_documents_with_its_signature_inside() -> None:
    body = message([new_secret()]).json
    assert body.pop("signature").startswith("sha256=")
    assert body == BODY


def test_a_changed_message_or_another_secret_does_not_hold() -> None:
    secret = new_secret()
    good = message([secret])
    changed = Received(good.headers, good.body.replace(b"offline", b"online!"))
    assert not verify_webhook(changed.body.decode(), changed.headers["x-webhook-signature"], secret)
    for received, key in ((changed, secret), (good, new_secret())):
        with pytest.raises(WebhookVerificationError):
            is_genuine(received, key)


def test_an_old_message_does_not_hold() -> None:
    secret = new_secret()
    with pytest.raises(WebhookVerificationError, match="too old"):
        is_genuine(message([secret], at=time.time() - 600), secret)


def test_while_an_old_secret_is_good_the_message_holds_for_both() -> None:
    new, old = new_secret(), new_secret()
    received = message([new, old])
    assert is_genuine(received, new)
    assert Webhook(old).verify(received.body, received.headers) == received.json
    assert verify_webhook(received.body.decode(), received.headers["x-webhook-signature-previous"], old)


def test_a_body_has_one_text() -> None:
    again = dict(reversed(list(BODY.items())))
    assert canonical(again) == canonical(BODY) == canonical(json.loads(canonical(BODY)))
    assert canonical(BODY).isascii()


def test_what_json_cannot_say_is_never_signed() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"x": float("nan")})
