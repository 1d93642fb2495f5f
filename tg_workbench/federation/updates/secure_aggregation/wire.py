"""The messages as members of JSON, and back: bytes in base64, and nothing taken that is not as it must be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from tg_workbench.crypto.manifests import content_of, text_of
from tg_workbench.errors import SecureAggregationRefused
from tg_workbench.federation.updates.secure_aggregation.messages import Survivors
from tg_workbench.federation.updates.secure_aggregation.quantising import MOST_DEVICES

MOST_BYTES = 4096
"""The longest part, a signature, has 3,309."""
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_Message = TypeVar("_Message")


def members_of(message: object) -> dict[str, Any]:
    """A message as members of JSON."""
    return {member.name: _written(getattr(message, member.name)) for member in fields(message)}  # type: ignore[arg-type]


def message_of(kind: type[_Message], members: object) -> _Message:
    """The message that these members are. Raises SecureAggregationRefused."""
    hints = get_type_hints(kind)
    if not isinstance(members, dict) or set(members) != set(hints):
        raise SecureAggregationRefused("a message has not exactly the members that it must have")
    return kind(**{name: _READ[str(hint)](members[name]) for name, hint in hints.items()})


def _written(value: Any) -> Any:
    match value:
        case bytes():
            return text_of(value)
        case Mapping():
            return {name: text_of(content) for name, content in sorted(value.items())}
        case tuple():
            return list(value)
    return members_of(value) if is_dataclass(value) else value


def _name(value: Any) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise SecureAggregationRefused("a message holds what is no name")
    return value


def _content(value: Any) -> bytes:
    content = content_of(value, MOST_BYTES)
    if content is None:
        raise SecureAggregationRefused("a message holds what is not base64, or too long")
    return content


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MOST_DEVICES:
        raise SecureAggregationRefused("a message holds what is no count of devices")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_DEVICES:
        raise SecureAggregationRefused("a message holds what is no list of devices")
    return tuple(_name(each) for each in value)


def _contents(value: Any) -> dict[str, bytes]:
    if not isinstance(value, dict) or len(value) > MOST_DEVICES:
        raise SecureAggregationRefused("a message holds what is not one entry for each device")
    return {_name(name): _content(content) for name, content in value.items()}


def _survivors(value: Any) -> Survivors:
    return message_of(Survivors, value)


_READ = {
    str(hint): read
    for hint, read in (
        (str, _name),
        (bytes, _content),
        (int, _count),
        (tuple[str, ...], _names),
        (Mapping[str, bytes], _contents),
        (Survivors, _survivors),
    )
}
"""How each type that a message may have is read."""
