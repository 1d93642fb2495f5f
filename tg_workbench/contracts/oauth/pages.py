"""The consent page: what an application wants, and where a person says who they are and whether they agree.

Nothing is loaded from anywhere, no script runs, no other page may frame it, and its form leads here and then
to the application's own address, as its policy says.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from urllib.parse import urlsplit

MEANINGS = {
    "read": "see your training clients, datasets and results",
    "read:devices": "see your devices, training clients and results",
    "write:devices": "let devices in, drive them, and train in your name",
    "train": "train models in your name",
    "datasets": "add and remove datasets",
    "devices": "let devices in and send them away",
    "keys": "issue and revoke your API keys",
    "webhooks": "subscribe to what happens",
    "audit": "read your organisation's audit log",
    "monitoring": "read the server's metrics, logs and alerts",
    "admin": "look after your organisation and its users",
}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1c1e21}"
    "main{max-width:26rem;margin:8vh auto;padding:2rem;background:#fff;border:1px solid #d8dade;"
    "border-radius:8px}h1{font-size:1.25rem;margin-top:0}label{display:block;margin:1rem 0 .25rem}"
    "input{box-sizing:border-box;width:100%;padding:.5rem;font:inherit;border:1px solid #8a8d91;"
    "border-radius:4px}button{margin:1.5rem .5rem 0 0;padding:.5rem 1.25rem;font:inherit;border-radius:4px;"
    "border:1px solid #1f5fbf;background:#fff;color:#1f5fbf}button.yes{background:#1f5fbf;color:#fff}"
    ".no{color:#a4161a}code{overflow-wrap:anywhere}"
    "@media (prefers-color-scheme:dark){body{background:#18191b;color:#e8e9eb}main{background:#232427;"
    "border-color:#3a3c40}input{background:#18191b;color:inherit}button{background:#232427;color:#8ab4f8}"
    ".no{color:#ff8a8d}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_HEAD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width"><title>TG Workbench</title>'
    f"<style>{STYLE}</style></head><body><main>"
)
_FOOT = "</main></body></html>"


def headers(redirect_uri: str | None = None) -> dict[str, str]:
    """The policy of a page whose form leads here, and from here to `redirect_uri`."""
    onward = ""
    if redirect_uri is not None:
        parts = urlsplit(redirect_uri)
        named = parts.netloc and "[" not in parts.netloc  # a policy cannot name an IPv6 address
        onward = f" {parts.scheme}://{parts.netloc}" if named else f" {parts.scheme}:"
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self'{onward}"
    )
    return {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True)
class Names:
    """Who wants in, for which organisation (None: the one joined first), and where one is sent."""

    application: str
    organization: str | None
    redirect_uri: str


def consent(names: Names, scopes: Iterable[str], fields: Mapping[str, str], wrong: bool) -> str:
    """The page on which an application is let in, or not."""
    where = "the organisation that you joined first"
    if names.organization is not None:
        where = f"the organisation <bdi>{escape(names.organization)}</bdi>"
    wishes = "".join(f"<li>{escape(MEANINGS.get(scope, scope))}</li>" for scope in scopes)
    kept = "".join(
        f'<input type="hidden" name="{escape(field)}" value="{escape(value)}">'
        for field, value in fields.items()
    )
    told = '<p class="no" role="alert">No account has this name and this password.</p>' if wrong else ""
    return (
        f"{_HEAD}<h1>Let <bdi>{escape(names.application)}</bdi> in?</h1>"
        f"<p>In {where} it wants to:</p><ul>{wishes}</ul>"
        f"<p>You will be sent to <code>{escape(names.redirect_uri)}</code>.</p>{told}"
        f'<form method="post" action="authorize">{kept}'
        '<label for="login">User name or e-mail address</label>'
        '<input id="login" name="login" autocomplete="username" maxlength="320">'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" '
        'maxlength="1024"><button class="yes" name="decision" value="allow">Sign in and allow</button>'
        f'<button name="decision" value="deny">Deny</button></form>{_FOOT}'
    )


def refusal(message: str) -> str:
    """What went wrong before anybody could be sent back."""
    return f"{_HEAD}<h1>This does not work</h1><p>{escape(message)}</p>{_FOOT}"
