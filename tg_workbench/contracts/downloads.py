"""Downloads: a blob as a file, whole or in parts (RFC 9110, 14), under a name that is fit for a header."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, MalformedRangeHeader, RangeNotSatisfiable
from starlette.types import Receive, Scope, Send

from tg_workbench.contracts.edges import ASKED_BY_HEAD
from tg_workbench.datasets import Dataset, Datasets


class Download(FileResponse):
    """A blob as a file. Its ETag is its SHA-256, so whoever has it can tell."""

    def __init__(self, path: Path, digest: str, name: str) -> None:
        headers = {"ETag": f'"{digest}"', "Cache-Control": "private, no-cache"}
        super().__init__(
            path,
            headers=headers,
            filename=name,
            media_type="application/octet-stream",
            stat_result=path.stat(),
        )

    @classmethod
    def of(cls, datasets: Datasets, dataset: Dataset) -> Download:
        """A dataset's file, or the rows as they were handed over. Raises NotFound."""
        digest = dataset.source or dataset.blob
        ending = {"safetensors": ".safetensors", "texts": ".json"}.get(dataset.format, "")
        return cls(datasets.blobs.path(digest), digest, dataset.file_name or f"{dataset.id}{ending}")

    def check(self, request: Request) -> Download:
        """Itself. Raises HTTPException 416 for a part that is not there; one that is no part is ignored."""
        asked, given = request.headers.get("range"), request.headers.get("if-range")
        size = self.stat_result.st_size if self.stat_result is not None else 0
        if asked is None or (given is not None and not self._should_use_range(given)):
            return self
        try:
            self._parse_range_header(asked, size)
        except RangeNotSatisfiable:
            raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"}) from None
        except MalformedRangeHeader:
            request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; to HEAD only what it would be."""
        if scope.get(ASKED_BY_HEAD):
            scope = {**scope, "method": "HEAD"}
        await super().__call__(scope, receive, send)
