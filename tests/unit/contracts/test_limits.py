"""Whom a stranger is, and which limits there are."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection

from tg_workbench.contracts.limits import DEVICE_PATHS, RULES, Limits, address_in, address_of
from tg_workbench.errors import InvalidSetting
from tg_workbench.settings import Settings


@pytest.mark.parametrize(
    ("host", "who"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("testclient", "unknown"),
    ],
)
def test_a_stranger_is_its_address(host: str, who: str) -> None:
    assert address_of(host) == who


@pytest.mark.parametrize(
    ("client", "server", "who"),
    [
        (("192.0.2.7", 4711), ("127.0.0.1", 8000), "192.0.2.7"),
        (("192.0.2.7", 0), ("/run/api.sock", None), "192.0.2.7"),  # so a trusted proxy says
        (None, ("/run/api.sock", None), None),
        (None, ("127.0.0.1", 8000), "unknown"),
    ],
)
def test_nobody_is_a_stranger_on_a_unix_socket(
    client: tuple[str, int] | None, server: tuple[str, int | None], who: str | None
) -> None:
    assert address_in(HTTPConnection({"type": "http", "client": client, "server": server})) == who


@pytest.mark.parametrize(
    ("path", "limited"),
    [
        ("/api/v1/devices", True),
        ("/api/v1/devices/register", True),
        ("/api/v1/devices/{device_id}", True),
        ("/api/v1/fl/rounds/{round_id}/join", True),
        ("/api/v1/fl/rounds/{round_id}/submit", True),
        ("/api/v1/fl/rounds/{round_id}", False),
        ("/api/v1/devices_of_mine", False),
    ],
)
def test_device_endpoints_are_those_of_devices(path: str, limited: bool) -> None:
    assert bool(DEVICE_PATHS.fullmatch(path)) == limited


def test_the_documents_numbers_are_kept() -> None:
    def seconds(contract: str) -> dict[str, tuple[int, int]]:
        return {kind: (rule.amount, rule.get_expiry()) for kind, rule in RULES[contract].items()}

    assert seconds("qflare") == {
        "users": (1000, 3600),
        "api_keys": (5000, 3600),
        "devices": (100, 60),
        "strangers": (60, 3600),
    }
    assert seconds("deep_learning") == {
        "users": (1000, 3600),
        "api_keys": (1000, 3600),
        "strangers": (100, 3600),
    }


@pytest.mark.parametrize(
    ("variables", "amount"),
    [
        ({}, None),
        ({"TG_ENVIRONMENT": "production"}, 60),
        ({"TG_ENVIRONMENT": "production", "TG_RATE_LIMITS": "off"}, None),
        ({"TG_RATE_LIMITS": "on"}, 60),
        ({"TG_RATE_LIMITS": "relaxed"}, 600),
    ],
    ids=str,
)
def test_the_environment_decides_unless_it_is_said(variables: dict[str, str], amount: int | None) -> None:
    rules = Limits(Settings.from_environment(variables)).rules
    assert (rules["qflare"]["strangers"].amount if rules else None) == amount


@pytest.mark.parametrize(
    "variables",
    [
        {"TG_RATE_LIMITS": "some"},
        {"REDIS_URL": "http://user:secret@host"},
        {"TG_TRUSTED_PROXIES": "*"},
        {"TG_TRUSTED_PROXIES": "10.0.0.0/8, proxy"},
        {"TG_TRUSTED_PROXIES": "unix:"},
    ],
    ids=str,
)
def test_a_setting_that_is_none_is_refused_without_its_password(variables: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Settings.from_environment(variables)
    assert "secret" not in str(refused.value)
