"""Requests that nobody should send, made from what the OpenAPI document says of an operation.

Bodies that are no JSON, or JSON that no database could hold, at every member's place; queries, ids and
headers out of every bound; credentials that are none. The same seed makes the same requests.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tg_workbench.contracts.route import ContractRoute

SECRET = "patient-4711"
"""What no answer may repeat: it is in many of the values below, and stands for an id, too."""
LITERALS = [
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "0.1", "-1", "0", "true", "null", "[]"),
    *(
        '"\\ud800"',
        '"\\udc00x"',
        '"\\u0000"',
        '{"\\ud800": 1}',
        '{"\\u0000": 1}',
        '""',
        '" "',
        "[null]",
        "{}",
    ),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 5000),
    *("[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900, "[" + "1," * 5000 + "1]"),
    *(f'"{SECRET}"', f'["{SECRET}"]', f'{{"{SECRET}": "{SECRET}"}}', f'"{SECRET * 6000}"'),
    *('"../../etc/passwd"', '"file:///etc/passwd"', '"\\r\\nX-Evil: 1"', '"<script>"'),
    *("'single'", "undefined", "01", "+1", ".5", "1.", "0x10", '"unclosed'),
]
"""As JSON would have them, or would not."""
WHOLE = [
    *(b"", b" ", b"[]", b'"text"', b"null", b"1", b"{", b"}", b"{]", b'{"a"}', b'{"a":}', b"{'a': 1}"),
    *(b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b'{"a": "\xff"}', b"\x00", b"[" * 100_000 + b"]" * 100_000),
    *(b'{"a": 1} {"b": 2}', b"/* c */ {}", b"PK\x03\x04" + bytes(40), b"\x80\x04\x95" + bytes(40), b"{,}"),
    *(SECRET.encode(), f"<xml>{SECRET}</xml>".encode(), f"a=1&b={SECRET}".encode(), b"--x\r\n\r\n--x--"),
]
MEDIA = [
    *(["application/json"] * 8),
    *("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml"),
    *("multipart/form-data; boundary=x", "application/json; charset=utf-16", "application/vnd.safetensors"),
    *("application/octet-stream", "json", "application/json, text/plain", f"text/{SECRET}", ";", "a/b/c"),
]
TEXTS = [
    *("", "%00", "%ff", "%f0%28", "%ed%a0%80", "%E2%80%AE", "%25", "%", "%7B%7D", "%0d%0aX-Evil:%201"),
    *("-1", "0", "1e3", "NaN", "1e999", "9223372036854775808", "9" * 400, "x" * 3000, "true", "2020-13-45"),
    *("..%2f..%2fetc%2fpasswd", "%252e%252e", "a%20b", "'", "%27%20OR", "*", "[]"),
    *(SECRET, f"{SECRET}%20", f"{SECRET}%00", f"%3Cscript%3E{SECRET}"),
]
"""What stands in a query, or for an id, as it goes over the wire."""
HEADERS = {
    b"Idempotency-Key": (b"", b"a b", b"x" * 300, b"\xff", f"{SECRET} x".encode()),
    b"Last-Event-ID": (b"-1", b"x", b"1e9", b"9" * 30, SECRET.encode(), b"\xe9"),
    b"Prefer": (b"wait", b"wait=-1", b"wait=x", b"wait=" + b"9" * 30, b";;", b"\xff"),
    b"Accept": (b"", b"text/event-stream", b"*/*;q=x", b"a/b" * 900, b"\xff"),
    b"Content-Encoding": (b"gzip", b"br", SECRET.encode()),
    b"X-Request-ID": (b"", b"<script>", b"x" * 200, b"\xff\xfe", b"a b"),
    b"X-Forwarded-For": (b"", b"127.0.0.1", b"::1, x", b"\xff"),
    b"Origin": (b"null", SECRET.encode()),
    b"Cookie": (SECRET.encode() + b"=\xff",),
    b"Range": (b"bytes=0-",),
    b"If-Match": (b'"',),
    b"X-HTTP-Method-Override": (b"DELETE",),
}
CREDENTIALS = [
    *(b"", b"Bearer", b"Basic dGd3OnRndw==", b"Bearer tgw-" + b"A" * 43, b"Bearer \xff"),
    *(f"Bearer {SECRET}".encode(), b"Bearer a.b.c", b"Bearer eyJhbGciOiJub25lIn0.e30.", b"Digest x"),
    b"Bearer " + b"x" * 4000,
]


@dataclass(frozen=True)
class Malformed:
    """One such request."""

    method: str
    target: str
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytes | None = None


class Operation:
    """What the OpenAPI document says of a route, as far as it can be spoiled."""

    def __init__(self, route: ContractRoute, document: dict[str, Any]) -> None:
        (self.method,) = route.methods or {"GET"}
        self.path = route.path_format
        self.document = document
        described = document["paths"][self.path][self.method.lower()]
        self.query = [one["name"] for one in described.get("parameters", ()) if one["in"] == "query"]
        self.members = sorted(self._members(described.get("requestBody", {})))

    def malformed(self, count: int) -> Iterator[Malformed]:
        """So many requests."""
        chance = random.Random(f"{self.method} {self.path}")  # noqa: S311  # no secret: tests repeat
        takes_body = self.method in ("POST", "PUT", "PATCH")
        for _ in range(count):
            headers: dict[bytes, bytes] = {}
            content = None
            if takes_body and chance.random() < 0.7:
                content = self._body(chance)
                headers[b"Content-Type"] = chance.choice(MEDIA).encode()
            if chance.random() < 0.4 or not takes_body:
                name = chance.choice(list(HEADERS))
                headers[name] = chance.choice(HEADERS[name])
            if chance.random() < 0.1:
                headers[b"Authorization"] = chance.choice(CREDENTIALS)
            yield Malformed(self.method, self._target(chance), headers, content)

    def _target(self, chance: random.Random) -> str:
        def some_id(_: Any) -> str:
            return chance.choice(TEXTS) or "x" if chance.random() < 0.3 else "none"

        path = re.sub(r"{\w+}", some_id, self.path)
        names = [*self.query, "unknown", SECRET]
        pairs = [
            f"{chance.choice(names)}={chance.choice(TEXTS)}" for _ in range(chance.choice([0, 0, 1, 1, 2]))
        ]
        return f"{path}?{'&'.join(pairs)}" if pairs else path

    def _body(self, chance: random.Random) -> bytes:
        if chance.random() < 0.25:
            return chance.choice(WHOLE)
        names = [*self.members, "unknown", SECRET]
        several = chance.choices(names, k=chance.choice([1, 1, 2, 4]))  # a name may come twice
        text = "{" + ", ".join(f'"{name}": {chance.choice(LITERALS)}' for name in several) + "}"
        if chance.random() < 0.1:
            text = text[: chance.randrange(len(text))]
        return text.encode()

    def _members(self, node: Any, depth: int = 0) -> set[str]:
        """Every member's name that a body may have, down to its parts."""
        if isinstance(node, list):
            return set().union(*(self._members(one, depth) for one in node))
        if not isinstance(node, dict) or depth > 6:
            return set()
        names = set(node["properties"]) if isinstance(node.get("properties"), dict) else set()
        if reference := node.get("$ref"):
            parts = self.document["components"]["schemas"][reference.rpartition("/")[2]]
            names |= self._members(parts, depth + 1)
        return names.union(*(self._members(one, depth + 1) for one in node.values()))
