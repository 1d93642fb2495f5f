"""Connected values: what a workbench told of one thing, and the way back to it to ask again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Self

from tg_workbench.errors import CallFailed
from tg_workbench.sdk.connection import Connection
from tg_workbench.sdk.values import Value


class Connected(Value):
    """A value with a `_connection`, by which it is looked at again."""

    __slots__ = ()
    KIND: ClassVar[str]
    """What it is, in a word."""
    WHENCE: ClassVar[str]
    """How one that asks is come by."""
    _connection: Connection | None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any], connection: Connection | None = None) -> Self:
        """The value that a JSON object tells of."""
        known = {name: value for name, value in data.items() if not name.startswith("_")}
        made = super().from_wire(known)
        made._connection = connection  # type: ignore[misc]  # its subclasses have the slot
        return made

    def _connected(self) -> Connection:
        if self._connection is None:
            raise CallFailed(f"this {self.KIND} comes from no workbench: {self.WHENCE} gives one that does")
        return self._connection

    def _take(self, told: Mapping[str, Any]) -> None:
        """Be what is told; what is this object's own, with an underscore, stays."""
        newest = type(self).from_wire(told, self._connection)
        for member in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if not member.name.startswith("_"):
                setattr(self, member.name, getattr(newest, member.name))
