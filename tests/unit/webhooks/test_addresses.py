"""No message goes to this machine or into its networks, however its address is written."""

from __future__ import annotations

import pytest

from tg_workbench.errors import InvalidRequest
from tg_workbench.settings import Settings
from tg_workbench.webhooks.addresses import AddressRefused, Reach

FAR, NEAR = Reach(https_only=True), Reach(https_only=False, loopback=True)
WRITTEN = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.254 127.0.0.1 127.9.9.9 168.63.129.16 169.254.169.254
172.16.0.1 192.0.0.1 192.0.0.9 192.0.0.10 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1
203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8 64:ff9b::7f00:1 64:ff9b::808:808
64:ff9b:1::1 100::1 2001::1 2001:10::1 2001:db8::1 2002:7f00:1:: 2002:808:808::1 3fff::1 5f00::1 fc00::1
fd00:ec2::254 fe80::1 fe80::1%lo fec0::1 ff02::1 4000::1
"""
PRIVATE = WRITTEN.split()


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        FAR.check_address(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"])
def test_a_public_address_is_good(address: str) -> None:
    assert str(FAR.check_address(address)) == address


def test_loopback_and_nothing_else_may_be_allowed() -> None:
    allowed = []
    for address in PRIVATE:
        try:
            NEAR.check_address(address)
        except AddressRefused:
            continue
        allowed.append(address)
    assert allowed == ["127.0.0.1", "127.9.9.9", "::1"]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "//example.com/x",
            "example.com",
        ),
        *("https://", "https:///x", "https://me:secret@example.com/", "https://me@example.com/"),
        *("https://example.com/#part", "https://example.com:22/", "https://example.com:0/", "https://[::1"),
        *("https://example.com:99999/", "https://127.0.0.1/", "https://[::1]/", "https://[fe80::1%25lo]/"),
        *("https://169.254.169.254/latest", "https://exa mple.com/", "https://exämple.com/", "https://a\\b/"),
        *("https://example.com/\r\nX: y", "gopher://example.com:25/", "javascript:alert(1)"),
    ],
)
def test_a_url_that_is_none_of_ours_to_call_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        FAR.check_url(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "host",
    [
        *("0177.0.0.1", "2130706433", "0x7f.1", "127.1", "0", "127.0.0.1.", "localhost.", "a.localhost."),
        *("*", "-", "a..b", ".example.com", "example.com.", "%65xample.com", "a_b.example", "-a.example"),
        *("[v1.x]", "[8.8.8.8]", "[2606:4700::1111%25lo]", "134744072", "8.8.8.8.", "8.8.2056", "256.1.1.1"),
        *("1.2.3.4.5", "example.7", "example.0x", "a" * 64 + ".example", "a." * 130 + "example", "a;b.com"),
    ],
)
@pytest.mark.parametrize("reach", [FAR, NEAR])
def test_a_host_that_can_never_be_called_is_refused_at_once(host: str, reach: Reach) -> None:
    with pytest.raises(InvalidRequest):
        reach.check_url(f"https://{host}:8443/")


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "LOCALHOST", "127.1", "2130706433", "0x7f.1"])
def test_this_machine_is_known_by_its_other_names(host: str) -> None:
    with pytest.raises(InvalidRequest, match="not a public one"):
        FAR.check_url(f"https://{host}:8443/")


def test_the_refusal_of_a_host_says_what_a_host_is() -> None:
    with pytest.raises(InvalidRequest, match="letters, digits and hyphens, joined by dots"):
        FAR.check_url("https://a..b/")


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com/hook?x=1", "https://xn--exmple-cua.com:8443/", "https://EXAMPLE.com/"),
        *("https://8.8.8.8/", "https://[2606:4700::1111]:8443/", "https://3.example/", "https://a--b.x1/"),
    ],
)
def test_a_good_url_passes(url: str) -> None:
    FAR.check_url(url)


def test_http_and_loopback_are_for_development() -> None:
    for host in ("127.0.0.1", "localhost", "hooks.localhost", "[::1]"):
        NEAR.check_url(f"http://{host}:8123/hook")
    assert Reach.of(Settings(environment="production", webhook_allow_loopback=True)) == Reach()
    assert Reach.of(Settings()) == Reach(https_only=False, loopback=False)
    assert Reach.of(Settings(webhook_allow_loopback=True)) == NEAR
