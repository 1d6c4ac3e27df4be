"""The rules for outgoing calls: which URLs, which hosts, which addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from yarl import URL

from wfe_egress.addresses import METADATA, Address, Network, literal, unwrapped, why_denied

#: Longer URLs are refused.
URL_CHARS = 8192


class EgressDenied(Exception):
    """An outgoing call was refused before anything was sent.

    Attributes:
        reason: EGRESS_DENIED.
        host: The host that was asked for; empty when the URL has none.
        address: The address that did not pass; None when the URL itself was refused.
        why: The rest of the sentence.
    """

    reason = "EGRESS_DENIED"

    def __init__(self, host: str, why: str, *, address: str | None = None) -> None:
        self.host = host
        self.address = address
        self.why = why
        where = host or "this URL"
        via = f" ({address})" if address and address != host else ""
        super().__init__(f"calls to {where}{via} are not allowed: {why}")

    @property
    def metadata(self) -> dict[str, Any]:
        """JSON-ready facts for an error's details."""
        return {"host": self.host, "why": self.why} | ({"address": self.address} if self.address else {})


class Guard:
    """Decides about URLs and addresses. Holds no connection; safe to share.

    Args:
        allow: On-premises exceptions, as an iterable or one text with commas: networks ("10.1.0.0/16"),
            addresses ("127.0.0.1", "::1") and hosts ("hooks.internal", with a leading dot for every host
            below: ".internal"). A host on the list may resolve to any address. Addresses of cloud metadata
            services are only opened by naming the very address.
        https_only: Refuse http.

    Raises:
        ValueError: An entry is neither a network, an address nor a host.
    """

    def __init__(self, *, allow: str | Iterable[str] = (), https_only: bool = False) -> None:
        self.https_only = https_only
        self._networks: list[Network] = []
        self._hosts: set[str] = set()
        self._domains: tuple[str, ...] = ()
        entries = allow.split(",") if isinstance(allow, str) else allow
        for entry in filter(None, (entry.strip() for entry in entries)):
            self._add(entry)

    def _add(self, entry: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(entry))
        except ValueError as error:
            host = _folded(entry.removeprefix("."))
            if not host or not all(char.isalnum() or char in "-._" for char in host) or _addresslike(host):
                message = f"{entry!r} is neither a network (10.1.0.0/16), an address nor a host"
                raise ValueError(message) from error
            if entry.startswith("."):
                self._domains += (f".{host}",)
            else:
                self._hosts.add(host)

    def check_url(self, url: str | URL) -> URL:
        """The parsed URL, if it may be called as far as its text tells; its addresses come later.

        Raises:
            EgressDenied: Not http or https, no host, userinfo, too long, or a literal address that is inside.
        """
        if len(str(url)) > URL_CHARS:
            raise EgressDenied("", f"the URL is longer than {URL_CHARS} characters")
        try:
            parsed = URL(url) if isinstance(url, str) else url
            host, port = parsed.host, parsed.port
        except (ValueError, TypeError, LookupError) as error:  # the last for "http://[::1]@"
            raise EgressDenied("", "it is not a URL") from error
        if not host:
            raise EgressDenied("", "it names no host; write http://host/path")
        if parsed.scheme not in ("http", "https"):
            raise EgressDenied(host, f"the scheme is {parsed.scheme or 'missing'}; only http and https are")
        if self.https_only and parsed.scheme != "https":
            raise EgressDenied(host, "only https is allowed here")
        if parsed.user is not None or parsed.password is not None:
            raise EgressDenied(host, "the URL holds a user or password; send an Authorization header")
        if not port:
            raise EgressDenied(host, "port 0 cannot be called")
        try:
            address = literal(host)
        except ValueError as error:
            raise EgressDenied(host, "it is neither a name nor an address") from error
        if address is not None:
            self.check_address(host, str(address))
            # Sockets read odd spellings their own way: call what was checked.
            return parsed.with_host(str(address)) if str(address) != host else parsed
        return parsed

    def allows_host(self, host: str) -> bool:
        """Whether the allow-list names the host, so that any of its addresses will do."""
        name = _folded(host)
        return name in self._hosts or (bool(self._domains) and name.endswith(self._domains))

    def check_address(self, host: str, address: str) -> None:
        """Let one address of a host pass, or not.

        Raises:
            EgressDenied: The address is inside and neither it nor the host is on the allow-list, or it is
                not an address.
        """
        try:
            parsed: Address = ipaddress.ip_address(address.split("%", 1)[0])
        except ValueError as error:
            raise EgressDenied(host, "the resolver gave no address but something else") from error
        why = why_denied(parsed)
        if why is None or self._allows_address(parsed):
            return
        if unwrapped(parsed) in METADATA or not self.allows_host(host):
            raise EgressDenied(host, f"the address {why}", address=str(parsed))

    def _allows_address(self, address: Address) -> bool:
        inner = unwrapped(address)
        # An IPv6 network on the list opens its own addresses, never what they may carry inside.
        spellings = {inner} if inner != address and why_denied(inner) is not None else {inner, address}
        for network in self._networks:
            if inner in METADATA and network.num_addresses > 1:
                continue
            if any(one.version == network.version and one in network for one in spellings):
                return True
        return False


def _folded(host: str) -> str:
    return host.rstrip(".").lower()


def _addresslike(host: str) -> bool:
    try:
        return literal(host) is not None
    except ValueError:
        return True
