"""The gate: nobody passes without Jupyter's login, and refusals come in the API's envelope."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado.web import HTTPError

from tg_server_extension.api import Api
from tg_server_extension.crossing import BEARER, target_of
from tg_server_extension.problem import Problem, refused

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOG_IN = "log in to Jupyter first: open it in this browser, or send 'Authorization: token …' with its token"


class Guarded(JupyterHandler):
    """A handler for logged-in callers. Unsafe methods with a cookie need its XSRF token as well.

    **Why** the check of its own: with `allow_unauthenticated_access`, which is the default, Jupyter itself
    turns nobody away.
    """

    def initialize(self, api: Api) -> None:
        """Tornado hands over what the route was registered with."""
        self.api = api

    async def prepare(self, **_: Any) -> None:
        """Let the caller pass, or raise."""
        await super().prepare(_redirect_to_login=False)
        if self.current_user is None:
            raise HTTPError(403, LOG_IN)
        action = "read" if self.request.method in SAFE_METHODS else "write"
        allowed = self.authorizer.is_authorized(self, self.current_user, action, "tg_workbench")
        if not await ensure_async(allowed):
            raise HTTPError(403)

    @property
    def target(self) -> str:
        """The path and query that the API is asked for."""
        target = target_of(self.request.uri or "", self.api.prefix)
        if target is None:
            raise HTTPError(404)
        return target

    @property
    def jupyter_tokens(self) -> set[str]:
        """Whatever in this request's headers may have opened Jupyter's door, and must stay on this side."""
        tokens = {self.token} if self.token else set()
        if self.token_authenticated and not self.get_query_argument("token", ""):
            match = BEARER.match(self.request.headers.get("Authorization", ""))
            tokens |= {match[1]} if match else set()
        return tokens

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an exception in the envelope; what was not meant for the caller stays in the log."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        said = error.log_message if isinstance(error, HTTPError) else None
        self.write_problem(
            refused(status_code, said if status_code < HTTPStatus.INTERNAL_SERVER_ERROR else None)
        )

    def write_problem(self, problem: Problem) -> None:
        """Write the answer, without sending it yet."""
        kind, body = problem.render(self.request.headers.get("Accept", ""))
        self.set_status(problem.status)
        self.set_header("Content-Type", kind)
        self.set_header("Content-Length", str(len(body)))
        self.write(body)
