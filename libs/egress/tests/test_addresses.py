from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wfe_egress import EgressDenied, Guard
from wfe_egress.addresses import DENIED, literal, why_denied

INSIDE = [
    "http://127.0.0.1/", "http://0x7f000001/", "http://2130706433/", "http://127.1/", "http://0177.0.0.1/",
    "http://0/", "http://127.0.1/", "http://0x7f.1/", "http://017700000001/", "http://127.0.0.1./",
    "http://①②⑦.0.0.1/", "http://127。0。0。1/", "http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[0:0:0:0:0:ffff:10.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/", "http://[64:ff9b::127.0.0.1]/", "http://[64:ff9b:1::1]/",
    "http://[2002:7f00:1::]/", "http://[2002:a9fe:a9fe::1]/", "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "http://[::ffff:0:127.0.0.1]/", "http://[fec0::1]/", "http://[fe80::1%25eth0]/", "http://[fc00::1]/",
    "http://[fd00:ec2::254]/", "http://[ff02::1]/", "http://[2001:db8::1]/", "http://[100::1]/",
    "http://[5f00::1]/", "http://[3fff::1]/", "http://100.100.100.200/", "http://169.254.169.254/",
    "http://10.1.2.3/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.0.1/",
    "http://100.64.0.1/", "http://198.18.0.1/", "http://192.0.0.192/", "http://192.0.2.1/",
    "http://192.88.99.1/", "http://198.51.100.1/", "http://203.0.113.7/", "http://224.0.0.1/",
    "http://240.0.0.1/", "http://255.255.255.255/", "http://0.0.0.0/", "http://0xa9fea9fe/",
    "http://2852039166/", "http://0251.0376.0251.0376/", "http://0xA9.0376.43518/",
]  # fmt: skip


@pytest.mark.parametrize("url", INSIDE)
def test_every_spelling_of_an_inside_address_is_refused(url: str) -> None:
    with pytest.raises(EgressDenied) as caught:
        Guard().check_url(url)
    assert caught.value.address
    assert caught.value.why in str(caught.value)


@pytest.mark.parametrize("url", ["http://8.8.8.8/", "http://[2606:4700::1111]/", "https://1.1.1.1:8443/x?y=z"])
def test_outside_addresses_pass(url: str) -> None:
    assert str(Guard().check_url(url)) == url


def test_odd_spellings_of_outside_addresses_are_called_by_what_was_checked() -> None:
    assert Guard().check_url("http://0x08080808/a").host == "8.8.8.8"


@pytest.mark.parametrize("text", ["1.2.3.256", "0x1ffffffff", "1.2.3.4.5", "4294967296", "1.2.65536", "a.1"])
def test_what_looks_like_an_address_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(EgressDenied):
        Guard().check_url(f"http://{text}/")


@given(st.integers(0, 2**32 - 1))
def test_no_dress_makes_a_denied_v4_address_pass(number: int) -> None:
    inner = ipaddress.IPv4Address(number)
    teredo = (0x20010000 << 96) | (number ^ 0xFFFFFFFF)
    dresses = [
        (0xFFFF << 32) | number,
        number,
        (0x64FF9B << 96) | number,
        (0x2002 << 112) | number << 80,
        teredo,
    ]
    if why_denied(inner) is not None:
        assert all(why_denied(ipaddress.IPv6Address(dress)) for dress in dresses)


@given(st.sampled_from(DENIED), st.data())
def test_every_address_of_every_denied_network_is_denied(network: object, data: st.DataObject) -> None:
    assert isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
    offset = data.draw(st.integers(0, network.num_addresses - 1))
    assert why_denied(network[offset]) is not None


@given(st.from_regex(r"\A(0x[0-9a-f]{0,9}|[0-9]{1,11})(\.(0x[0-9a-f]{0,4}|[0-9]{1,4})){0,4}\Z"))
def test_literals_are_read_as_the_system_reads_them(text: str) -> None:
    try:
        expected = socket.inet_aton(text)
    except OSError:
        with suppress(ValueError):
            assert literal(text) is not None, "an odd address must not pass as a name"
        return
    address = literal(text)
    assert address is not None
    assert address.packed == expected


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "file:///etc/passwd", "gopher://x/", "javascript:1", "/path", "example.com", "http://",
     "http:///x", "http://user@example.com/", "http://user:pw@example.com/", "http://example.com:0/",
     "http://example.com:99999/", "http://[::1/", "//example.com/", "", "http://x/" + "a" * 9000,
     "http://ex.com\\@127.0.0.1/", "http://[::2]@", "http://a@"],
)  # fmt: skip
def test_urls_that_are_not_plain_http_are_refused(url: str) -> None:
    with pytest.raises(EgressDenied):
        Guard().check_url(url)


def test_https_only() -> None:
    guard = Guard(https_only=True)
    assert guard.check_url("https://example.com/")
    with pytest.raises(EgressDenied, match="only https"):
        guard.check_url("http://example.com/")


def test_allow_list_opens_networks_addresses_hosts_and_domains() -> None:
    guard = Guard(allow="127.0.0.0/8, 10.1.0.0/16,::1,hooks.internal,.svc.local")
    for url in ("http://127.0.0.1/", "http://0x7f000001/", "http://[::ffff:10.1.2.3]/", "http://[::1]/"):
        guard.check_url(url)
    with pytest.raises(EgressDenied):
        guard.check_url("http://10.2.0.1/")
    guard.check_address("Hooks.Internal.", "192.168.7.7")
    guard.check_address("a.b.svc.local", "10.9.9.9")
    for host in ("evilhooks.internal", "svc.local", "hooks.internal.example.com"):
        with pytest.raises(EgressDenied):
            guard.check_address(host, "192.168.7.7")


def test_metadata_services_need_their_very_address() -> None:
    wide = Guard(allow="169.254.0.0/16,hooks.internal")
    wide.check_address("x", "169.254.1.1")
    for host in ("x", "hooks.internal"):
        with pytest.raises(EgressDenied, match="metadata"):
            wide.check_address(host, "169.254.169.254")
    Guard(allow="169.254.0.0/16,169.254.169.254").check_address("x", "169.254.169.254")


def test_an_allowed_v6_network_does_not_open_what_it_carries() -> None:
    guard = Guard(allow="64:ff9b::/96")
    guard.check_address("x", "64:ff9b::808:808")
    with pytest.raises(EgressDenied):
        guard.check_address("x", "64:ff9b::a9fe:a9fe")


@pytest.mark.parametrize("entry", ["10.1.0.0/33", "http://x", "10.1.2.3/8", "a b", "999.1.1.1", "."])
def test_broken_allow_entries_are_named(entry: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        Guard(allow=entry)
