"""What the extension answers when the API cannot: a sentence that says what to do, in the API's envelope."""

from __future__ import annotations

import html
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>TG Workbench: {title}</title>
<body style="font: 16px/1.5 sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em">
<h1>{title}</h1><p>{message}</p><p><small>{code} · {request_id}</small></p></body></html>
"""
TITLES = {403: "Not allowed", 404: "Not found", 413: "Too large", 502: "Interrupted", 503: "Not running"}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was not handed through. Its message says what to do, and never quotes the request."""

    status: int
    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    request_id: str = field(default_factory=lambda: f"req-{uuid.uuid4()}")

    def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and body: a page for whoever prefers one, JSON for everyone else."""
        if accept.lstrip().lower().startswith("text/html"):
            facts = {
                "title": TITLES.get(self.status, "It did not work"),
                "message": self.message,
                "code": self.code,
                "request_id": self.request_id,
            }
            page = PAGE.format(**{name: html.escape(text) for name, text in facts.items()})
            return "text/html; charset=utf-8", page.encode()
        error = {
            "code": self.code,
            "message": self.message,
            "details": self.details,
            "request_id": self.request_id,
        }
        return "application/json", json.dumps({"error": error}, ensure_ascii=False).encode()


def refused(status: int, message: str | None = None) -> Problem:
    """The problem behind a status that Jupyter or the proxy decided on."""
    known = {
        400: ("VALIDATION_ERROR", "the request is malformed"),
        403: ("PERMISSION_DENIED", "this request may not pass: reload the page, or send Jupyter's token"),
        404: ("NOT_FOUND", "there is nothing here for this origin"),
        405: ("METHOD_NOT_ALLOWED", "this method is not allowed here"),
        413: ("PAYLOAD_TOO_LARGE", "the body is too large"),
    }
    code, said = known.get(status, ("INTERNAL_ERROR", "the Jupyter extension failed; its log says why"))
    return Problem(status, code, message or said)
