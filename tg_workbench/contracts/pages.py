"""Pages for people: a home page, and /docs and /redoc from assets that are shipped with the package.

Every address on them is relative, so they also work behind Jupyter's proxy; nothing is fetched from anywhere
else, and a content security policy makes sure of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

WELCOME = {"message": "Welcome to the Deep Learning Platform"}
"""Word for word from the Deep Learning Platform's document, which owns `GET /`."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self' data:; worker-src blob:; base-uri 'none'; form-action 'none'"
)
_HEAD = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{more}</head>'
_ICON = '<link rel="icon" href="docs-assets/favicon.png">'
HOME = (
    _HEAD.format(title="TG Workbench", more=_ICON)
    + "<body><h1>TG Workbench</h1><p>Train on data you may not leak.</p><ul>"
    '<li><a href="docs">Try the API</a></li><li><a href="redoc">Read the API</a></li>'
    '<li><a href="openapi.json">OpenAPI</a></li><li><a href="health">Health</a></li></ul></body></html>'
)
SWAGGER = (
    _HEAD.format(
        title="TG Workbench: the API",
        more=_ICON + '<link rel="stylesheet" href="docs-assets/swagger-ui.css">',
    )
    + '<body><div id="swagger-ui"></div><script src="docs-assets/swagger-ui-bundle.js"></script>'
    '<script src="docs-assets/start.js"></script></body></html>'
)
START = """const proof = () => (document.cookie.match(/(?:^|; )_xsrf=([^;]*)/) || [])[1];
window.ui = SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout", validatorUrl: null,
  requestInterceptor: (request) => {
    if (proof() && new URL(request.url, location.href).origin === location.origin)
      request.headers["X-XSRFToken"] = decodeURIComponent(proof());
    return request;
  }});
"""
"""Behind Jupyter, whoever may write proves with its cookie that the page is one of Jupyter's own."""
REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
REDOC = (
    _HEAD.format(title="TG Workbench: the API", more=_ICON)
    + '<body style="margin:0"><redoc spec-url="openapi.json"></redoc>'
    '<script src="docs-assets/redoc.standalone.js"></script></body></html>'
)


def routes() -> list[BaseRoute]:
    """The pages and what they load."""
    return [
        Route("/", _home, methods=["GET"]),
        Route("/docs", _page(SWAGGER), methods=["GET"]),
        Route("/redoc", _page(REDOC), methods=["GET"]),
        Route("/docs-assets/start.js", _start, methods=["GET"]),
        Route("/docs-assets/redoc.standalone.js", _redoc, methods=["GET"]),
        Mount("/docs-assets", StaticFiles(directory=_assets())),
    ]


async def _home(request: Request) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        return _html(HOME)
    return JSONResponse(WELCOME, headers={"Vary": "Accept"})


def _page(html: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        return _html(html)

    return page


async def _start(request: Request) -> Response:
    return Response(START, media_type="text/javascript")


async def _redoc(request: Request) -> Response:
    """ReDoc, with the one picture that it would fetch from its makers replaced by ours."""
    script = (_assets() / "redoc.standalone.js").read_text().replace(REDOC_LOGO, "docs-assets/favicon.png")
    return Response(script, media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})


def _html(html: str) -> Response:
    return HTMLResponse(html, headers={"Content-Security-Policy": POLICY, "Vary": "Accept"})


def _assets() -> Path:
    """Swagger UI and ReDoc as the `fastapi-offline` package ships them; its code is not needed."""
    package = find_spec("fastapi_offline")
    if package is None or package.origin is None:
        raise RuntimeError("fastapi-offline is not installed: its files are the API's documentation pages")
    return Path(package.origin).parent / "static"
