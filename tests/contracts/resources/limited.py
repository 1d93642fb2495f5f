"""`tg-workbench serve` with a few routes more: one of each kind that the documents limit."""

from __future__ import annotations

import sys

from fastapi import APIRouter

from tg_workbench import __main__ as command
from tg_workbench import app
from tg_workbench.contracts.deep_learning.errors import DeepLearningRoute
from tg_workbench.contracts.qflare.errors import QflareRoute
from tg_workbench.contracts.route import public

qflare = APIRouter(prefix="/api/v1", route_class=QflareRoute)
deep_learning = APIRouter(route_class=DeepLearningRoute)


@qflare.get("/limited/open")
@deep_learning.get("/limited/open")
@public
async def read_open() -> bool:
    """For anybody."""
    return True


@qflare.get("/limited/closed")
@qflare.get("/devices/limited/closed")
@deep_learning.get("/limited/closed")
async def read_closed() -> bool:
    """For whoever may read."""
    return True


if __name__ == "__main__":
    setattr(app, "ROUTERS", (*app.ROUTERS, qflare, deep_learning))  # noqa: B010
    sys.exit(command.main(["serve", *sys.argv[1:]]))
