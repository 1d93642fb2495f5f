from __future__ import annotations

import pytest

from tg_workbench.errors import CallFailed
from tg_workbench.sdk.address import Address


def test_a_notebook_needs_no_url_and_no_key() -> None:
    environ = {"TG_SOCKET": "/run/tg.sock", "TG_API_KEY": "tgw-1", "TG_BASE_URL": "http://elsewhere"}
    address = Address.find(environ=environ)
    assert (address.socket, address.api_key) == ("/run/tg.sock", "tgw-1")


def test_what_is_given_comes_before_the_environment() -> None:
    address = Address.find("http://here:8000/", "tgw-2", environ={"TG_SOCKET": "/s", "TG_API_KEY": "tgw-1"})
    assert address == Address("http://here:8000", None, "tgw-2")


@pytest.mark.parametrize(
    "names", [("TG_BASE_URL", "TG_API_KEY"), ("TG_TINKER_BASE_URL", "TG_TINKER_API_KEY")]
)
def test_a_script_finds_its_url_and_key_in_the_environment(names: tuple[str, str]) -> None:
    url, key = names
    address = Address.find(environ={url: "https://workbench.example/tg", key: "tgw-3"})
    assert address == Address("https://workbench.example/tg", None, "tgw-3")


def test_without_an_address_the_error_says_how_to_start_a_workbench() -> None:
    with pytest.raises(CallFailed, match=r"make lab.*tg-workbench serve.*keys create.*base_url"):
        Address.find(environ={})


def test_a_url_without_a_scheme_is_refused() -> None:
    with pytest.raises(CallFailed, match="http://localhost:8000"):
        Address.find("localhost:8000", environ={})


@pytest.mark.parametrize("base", ["/api/v1", "/api/v1/", "//api/v1//"])
@pytest.mark.parametrize("root", ["http://here:8000", "https://workbench.example/tg"])
def test_the_base_url_of_a_document_is_that_of_its_workbench(root: str, base: str) -> None:
    assert Address.find(root + base, environ={}).url == root
    assert Address.find(environ={"TG_BASE_URL": root + base}).url == root
    assert Address.find(root + base, socket="/s", environ={}).url == root
    assert Address.find(f"{root}/api/v1/more", environ={}).url == f"{root}/api/v1/more"


def test_the_key_is_never_shown() -> None:
    assert "tgw-secret" not in repr(Address("http://x", None, "tgw-secret"))


def test_the_key_of_the_workbench_beside_the_kernel_goes_nowhere_else() -> None:
    environ = {"TG_SOCKET": "/s", "TG_API_KEY": "tgw-local", "TG_BASE_URL": "http://mine:8000"}
    assert Address.find("https://elsewhere.example", environ=environ).api_key is None
    assert Address.find("https://elsewhere.example", "tgw-2", environ=environ).api_key == "tgw-2"
    for same in ("http://mine:8000", "http://mine:8000/", "http://mine:8000/api/v1"):
        assert Address.find(same, environ=environ).api_key == "tgw-local"
