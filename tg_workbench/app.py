"""The one place where every room meets: settings in, an ASGI application out.

The application starts and stops the dispatcher, opens the database when it can be reached, and ends live
feeds as soon as the process is asked to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from tg_workbench import __version__
from tg_workbench.contracts import pages
from tg_workbench.contracts.aitip import datasets as aitip_datasets
from tg_workbench.contracts.aitip import jobs as aitip_jobs
from tg_workbench.contracts.aitip import routes as aitip
from tg_workbench.contracts.coordination import datasets as coordination_datasets
from tg_workbench.contracts.coordination import jobs as coordination_jobs
from tg_workbench.contracts.coordination import models as coordination_models
from tg_workbench.contracts.coordination import routes as coordination
from tg_workbench.contracts.deep_learning import datasets as deep_learning_datasets
from tg_workbench.contracts.deep_learning import models as deep_learning_models
from tg_workbench.contracts.deep_learning import routes as deep_learning
from tg_workbench.contracts.deep_learning import training as deep_learning_training
from tg_workbench.contracts.duties import on_duty, tidy
from tg_workbench.contracts.edges import BodyLimit, Edge, Heads, LastResort
from tg_workbench.contracts.failures import NoSuchPath
from tg_workbench.contracts.limits import LimitHeaders, Limits
from tg_workbench.contracts.oauth import routes as oauth
from tg_workbench.contracts.open_inference import routes as open_inference
from tg_workbench.contracts.openapi import Documents
from tg_workbench.contracts.premises import Premises
from tg_workbench.contracts.qflare import channels, device_channel, monitoring
from tg_workbench.contracts.qflare import devices as qflare_devices
from tg_workbench.contracts.qflare import rounds as qflare_rounds
from tg_workbench.contracts.qflare import routes as qflare
from tg_workbench.contracts.route import ContractRoute
from tg_workbench.contracts.table import answer_failure
from tg_workbench.contracts.tg_tinker import routes as tg_tinker
from tg_workbench.contracts.trail import write_trail
from tg_workbench.contracts.watched import AuditScan, fleet_budgets, webhook_deliveries
from tg_workbench.contracts.workbench import accounts as workbench_accounts
from tg_workbench.contracts.workbench import (
    alerts,
    device_authority,
    device_keys,
    enrollment_tokens,
    jobs,
    notifications,
    own_account,
    services,
    webhooks,
)
from tg_workbench.contracts.workbench import campaigns as workbench_campaigns
from tg_workbench.contracts.workbench import datasets as workbench_datasets
from tg_workbench.contracts.workbench import devices as workbench_devices
from tg_workbench.contracts.workbench import fleets as workbench_fleets
from tg_workbench.contracts.workbench import models as workbench_models
from tg_workbench.contracts.workbench import oauth_clients as workbench_oauth_clients
from tg_workbench.contracts.workbench import routes as workbench
from tg_workbench.contracts.workbench import secure_rounds as workbench_secure_rounds
from tg_workbench.contracts.workbench import update_uploads as workbench_update_uploads
from tg_workbench.crypto.access_tokens import AccessTokens
from tg_workbench.errors import DatabaseUnavailable, InvalidSetting, WorkbenchError
from tg_workbench.execution import AsyncBells, DispatcherProcess, run_folder
from tg_workbench.federation.devices import CertificateOffice
from tg_workbench.models.serving import Pool, Triton
from tg_workbench.observability.logs import where
from tg_workbench.observability.metrics import Measured, Metrics
from tg_workbench.security import AuditLog
from tg_workbench.settings import Settings
from tg_workbench.storage import Blobs, Database

log = structlog.get_logger("tg_workbench")
ROUTERS = (
    tg_tinker.probes,
    tg_tinker.router,
    deep_learning.router,
    open_inference.router,
    aitip.router,
    aitip_datasets.router,
    aitip_jobs.router,
    qflare.router,
    oauth.page_router,
    oauth.router,
    monitoring.router,
    qflare_devices.router,
    enrollment_tokens.router,
    workbench_devices.router,
    device_keys.router,
    device_authority.router,
    qflare_rounds.router,
    workbench_campaigns.router,
    workbench_fleets.router,
    workbench_secure_rounds.router,
    workbench_update_uploads.router,
    deep_learning_datasets.router,
    deep_learning_training.router,
    coordination.router,
    coordination_datasets.router,
    coordination_jobs.router,
    workbench.router,
    workbench_datasets.router,
    workbench_datasets.uploads,
    deep_learning_models.router,
    coordination_models.router,
    workbench_models.router,
    workbench_accounts.router,
    own_account.router,
    workbench_oauth_clients.router,
    webhooks.router,
    alerts.router,
    notifications.router,
    jobs.router,
    services.router,
)
"""In the order in which they are looked through: first what is asked many times a second."""
FAILURES = (WorkbenchError, RequestValidationError, HTTPException)
RETRY_SECONDS = 1.0
SHOWN_HEADERS = (
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Retry-After",
    "Upload-Offset",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-ID",
)
CALLERS_HEADERS = (
    *("Authorization", "Content-Type", "Idempotency-Key", "If-Range", "Last-Event-ID", "Prefer", "Range"),
    *("Upload-Offset", "X-API-Key"),
)


def create_app(settings: Settings) -> FastAPI:
    """The application that `settings` describe. Raises InvalidSetting."""
    _refuse_unsafe(settings)
    folder = run_folder(settings.make_home())
    metrics = Metrics(__version__)
    app = FastAPI(
        title="TG Workbench",
        version=__version__,
        description="Train on data you may not leak: TG-Tinker's API, and what it needs beside it.",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        middleware=_middleware(settings, metrics),
        exception_handlers=dict.fromkeys(
            (WorkbenchError, RequestValidationError, HTTPException), answer_failure
        ),
    )
    database = Database(settings.database_url)
    database.before_commit.append(write_trail)
    audit = AuditLog(database, settings.home)
    bells = AsyncBells(folder)
    app.state.premises = Premises(
        settings=settings,
        database=database,
        blobs=Blobs(settings.home / "blobs"),
        folder=folder,
        bells=bells,
        pool=Pool(folder, database, bells),
        triton=Triton.of(settings),
        limits=Limits(settings),
        audit=audit,
        scan=AuditScan(audit),
        metrics=metrics,
        figures=(webhook_deliveries, fleet_budgets),
        access_tokens=AccessTokens(settings.home),
        certificates=CertificateOffice(settings.home),
    )
    app.state.cannot_open = False
    # Not `include_router`: it has a second copy of every route made, for what it could add, which takes 3 MB.
    app.router.routes.extend(route for router in ROUTERS for route in router.routes)
    _serve_documents(app)
    app.router.routes.extend([*channels.routes(), *device_channel.routes(), *pages.routes()])
    return app


def contract_routes() -> list[ContractRoute]:
    """Every route of every contract."""
    return [route for router in ROUTERS for route in router.routes if isinstance(route, ContractRoute)]


def _refuse_unsafe(settings: Settings) -> None:
    if settings.auth_disabled and settings.production:
        raise InvalidSetting("TG_AUTH_DISABLED", "true", "unset in production")
    if "*" in settings.allowed_origins and settings.allow_credentials:
        raise InvalidSetting(
            "TG_ALLOWED_ORIGINS", "*", "a list of origins, because TG_ALLOW_CREDENTIALS is true"
        )
    if settings.webhook_allow_loopback and settings.production:
        raise InvalidSetting("TG_WEBHOOK_ALLOW_LOOPBACK", "true", "unset in production")


def _middleware(settings: Settings, metrics: Metrics) -> list[Middleware]:
    """From the outside in. Headers are on every answer, those of CORS and of mistakes included."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_credentials=settings.allow_credentials,
        allow_methods=("DELETE", "GET", "PATCH", "POST", "PUT"),
        allow_headers=CALLERS_HEADERS,
        expose_headers=SHOWN_HEADERS,
    )
    limit = Middleware(BodyLimit, most=settings.max_body_bytes, most_of_files=settings.max_upload_bytes)
    counting = [] if settings.rate_limits == "off" else [Middleware(LimitHeaders)]
    measured = Middleware(Measured, metrics=metrics)
    edge = Middleware(Edge, settings=settings)
    return [Middleware(Heads), edge, measured, cors, *counting, Middleware(LastResort), limit]


def _serve_documents(app: FastAPI) -> None:
    documents = Documents(app, contract_routes())
    app.openapi = documents.document  # type: ignore[method-assign]  # FastAPI's documented way

    async def whole(request: Request) -> Response:
        return Response(await documents.printed(), media_type="application/json")

    async def of_contract(request: Request) -> Response:
        name = request.path_params["contract"]
        if name not in documents.contracts:
            raise NoSuchPath(f"the contracts are {', '.join(documents.contracts)}")
        return Response(await documents.printed(name), media_type="application/json")

    app.add_route("/openapi.json", whole, methods=["GET"], include_in_schema=False)
    app.add_route("/openapi/{contract}.json", of_contract, methods=["GET"], include_in_schema=False)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    premises: Premises = app.state.premises
    dispatcher = DispatcherProcess(premises.settings)
    premises.bells.open()
    opening = asyncio.create_task(_open(premises, dispatcher))
    await asyncio.wait({opening}, timeout=RETRY_SECONDS)
    if opening.done() and (failure := opening.exception()) is not None:
        _say_why(failure)
        app.state.cannot_open = True
        raise failure  # before it is said to have started: the server ends with a failure of its own
    opening.add_done_callback(partial(_stop_unless_open, app))
    with _ending_feeds(premises):
        try:
            async with on_duty(premises, opening):
                try:
                    yield
                finally:
                    premises.stopping.set()
                    opening.cancel()
        finally:
            await asyncio.gather(opening, return_exceptions=True)
            await dispatcher.stop()
            premises.bells.close()
            await premises.pool.close()
            if premises.triton is not None:
                await premises.triton.close()
            await premises.limits.counters.close()
            premises.database.close()


async def _open(premises: Premises, dispatcher: DispatcherProcess) -> None:
    """Bring the database up to date, then start the dispatcher; until it answers, keep asking."""
    while True:
        try:
            await asyncio.to_thread(premises.database.migrate)
            await asyncio.to_thread(premises.audit.open)
            await asyncio.to_thread(tidy, premises)
            break
        except DatabaseUnavailable:
            log.warning("database unavailable", again_in_seconds=RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)
    await dispatcher.start()


def _stop_unless_open(app: FastAPI, opening: asyncio.Task[None]) -> None:
    """A workbench that cannot open must not look as if it had: it says why, and ends."""
    failure = None if opening.cancelled() else opening.exception()
    if failure is None:
        return
    _say_why(failure)
    app.state.cannot_open = True
    signal.raise_signal(signal.SIGTERM)


def _say_why(failure: BaseException) -> None:
    known = isinstance(failure, WorkbenchError)
    log.error("cannot open", reason=str(failure) if known else type(failure).__name__, **where(failure))


Handler = Callable[[int, FrameType | None], Any] | int | None


@contextlib.contextmanager
def _ending_feeds(premises: Premises) -> Iterator[None]:
    """Tell feeds and waits when the process is asked to stop, then let the server's own handler act.

    Otherwise an open feed would keep the server from ending. Signals reach the main thread only; elsewhere
    (in tests) there is nothing to hook into.
    """
    loop = asyncio.get_running_loop()
    before: dict[int, Handler] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(premises.stopping.set)
        handler = before.get(number)
        if callable(handler):
            handler(number, frame)

    with contextlib.suppress(ValueError):
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for hooked, handler in before.items():
            signal.signal(hooked, handler)
