"""What may cross the proxy: a request without Jupyter's secrets, an answer without the API's cookies.

**Pitfalls.** Jupyter's token travels in five places: header, query, cookie, form field, and the `Referer` of
a page that was opened with it. The body alone is not ours to read.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from hmac import compare_digest
from urllib.parse import quote, unquote_plus, urlsplit, urlunsplit

from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError

HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "upgrade"),
        *("proxy-authenticate", "proxy-authorization"),
        *("te", "trailer", "transfer-encoding"),
    }
)
OURS_TO_SAY = frozenset(
    {
        *("content-length", "expect", "host"),
        *("forwarded", "x-real-ip"),
        *("cookie", "origin", "referer", "x-csrftoken", "x-xsrftoken"),
    }
)
NOT_THEIRS_TO_SAY = frozenset({"set-cookie", "set-cookie2", "clear-site-data", "server", "date"})
JUPYTER_QUERY = frozenset({"token", "_xsrf"})
BEARER = re.compile(r"(?:token|bearer)\s+(.+)", re.IGNORECASE)
Pairs = Iterable[tuple[str, str]]


def end_to_end(headers: Pairs) -> Iterator[tuple[str, str]]:
    """The headers that are not about one connection (RFC 9110 §7.6.1)."""
    pairs = [(name, value) for name, value in headers]
    listed = ",".join(value for name, value in pairs if name.lower() == "connection")
    dropped = HOP_BY_HOP | {name.strip().lower() for name in listed.split(",")}
    return ((name, value) for name, value in pairs if name.lower() not in dropped)


def request_headers(
    incoming: HTTPHeaders, *, jupyter_tokens: set[str], api_key: str
) -> list[tuple[str, str]]:
    """What the API sees: the caller's own headers and credential, or, if it brought none, the local key."""
    headers = []
    for name, value in end_to_end(incoming.get_all()):
        plain = name.lower().replace("_", "-")
        if plain in OURS_TO_SAY or plain.startswith(("x-tg-", "x-forwarded-")):
            continue
        if plain == "authorization" and _is_jupyters(value, jupyter_tokens):
            continue
        try:
            headers.append((name, value.encode("latin1").decode()))
        except UnicodeDecodeError as error:
            raise HTTPError(400, "header values are UTF-8") from error
    names = {name.lower() for name, _ in headers}
    return headers if names & {"authorization", "x-api-key"} else [*headers, ("X-API-Key", api_key)]


def response_headers(upstream: Pairs) -> Iterator[tuple[str, str]]:
    """What the caller sees. Cookies and cross-origin rules of this origin are Jupyter's to set."""
    for name, value in end_to_end(upstream):
        plain = name.lower()
        if plain not in NOT_THEIRS_TO_SAY and not plain.startswith("access-control-"):
            yield name, value.encode("utf-8", "surrogateescape").decode("latin1")


def target_of(uri: str, prefix: str) -> str | None:
    """The path and query as the API sees them, or None if the address is not under the prefix."""
    path, mark, query = uri.partition("?")
    if not f"{path}/".startswith(prefix):
        return None
    kept = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]) not in JUPYTER_QUERY]
    target = f"/{path[len(prefix) :]}" + (f"?{'&'.join(kept)}" if mark and any(kept) else "")
    return quote(target.encode("latin1"), safe=string.punctuation.replace("#", ""))


def location(value: str, *, host: str, prefix: str) -> str:
    """A redirect within the API, as an address within Jupyter."""
    parts = urlsplit(value)
    if parts.netloc not in ("", host) or not parts.path.startswith("/") or parts.path.startswith(prefix):
        return value
    return urlunsplit(("", "", prefix + parts.path[1:], parts.query, parts.fragment))


def framing_fault(headers: HTTPHeaders) -> str | None:
    """Why the length of this body is not beyond doubt: two readers could disagree on where it ends."""
    lengths, encodings = headers.get_list("Content-Length"), headers.get_list("Transfer-Encoding")
    if lengths and encodings:
        return "a request has a Content-Length or a Transfer-Encoding, not both"
    if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,18}", length) for length in lengths):
        return "a request has one Content-Length, a whole number"
    if encodings and [encoding.lower() for encoding in encodings] != ["chunked"]:
        return "the only Transfer-Encoding is chunked"
    return None


def _is_jupyters(authorization: str, tokens: set[str]) -> bool:
    match = BEARER.fullmatch(authorization.strip())
    return match is not None and any(
        compare_digest(match[1].encode("latin1"), token.encode("utf-8", "replace")) for token in tokens
    )
