"""What can go wrong with models, and with the services that answer with them."""

from __future__ import annotations

from tg_workbench.errors.families import NotFound, Refused, WorkbenchError


class ModelNotFound(NotFound):
    """No model has this id."""

    def __init__(self) -> None:
        super().__init__("there is no model with this id")


class ModelInUse(Refused):
    """A model that a service still answers with."""

    def __init__(self, services: int) -> None:
        super().__init__(f"this model is served by {services} inference service(s); delete those first")
        self.services = services


class ModelFailed(Refused):
    """A model that cannot answer, now or ever: it does not load, or its numbers are not finite."""


class ModelNotReady(WorkbenchError):
    """No worker of this model answers yet. Nothing was computed; the same request may be sent again."""

    def __init__(self, message: str = "this model is being made ready; send the request again") -> None:
        super().__init__(message)


class ModelBusy(ModelNotReady):
    """More is asked of this model than it has room for."""

    def __init__(self) -> None:
        super().__init__("this model has as much to answer as it has room for; send the request again")


class ServiceNotFound(NotFound):
    """No inference service has this id or name."""

    def __init__(self) -> None:
        super().__init__("there is no inference service with this id or name")


class ServiceStopped(Refused):
    """An inference service that nobody has started."""

    def __init__(self) -> None:
        super().__init__("this inference service is stopped: start it first")
