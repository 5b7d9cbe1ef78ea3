"""HTTP GET of addresses that come from task data: public hosts and trusted ones, within a time and a size.

A task's data is written by whoever may import tasks; without this, it could make the backend read services
that only the backend's own network reaches (server-side request forgery).
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import httpcore
import httpx

ERROR_BODY_BYTES = 64 << 10
IPV6_UNICAST = ip_network("2000::/3")
# Public by their number, not by what answers there.
NOT_PUBLIC = (
    ip_network("168.63.129.16/32"),  # Azure's metadata and DNS
    ip_network("192.0.0.0/24"),  # protocol assignments, among them Oracle's metadata
    ip_network("192.88.99.0/24"),  # 6to4 relays
)


class PrivateAddress(Exception):
    """The host is neither trusted nor public. `host` says which."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


class BodyTooLarge(Exception):
    """The answer is larger than asked for."""


@dataclass(frozen=True)
class Reply:
    status: int
    location: str
    body: bytes


class SafeHttp:
    """GET with pooled connections; for use by many threads at once.

    trusted: whether a host and port may have any address. Every other host must have public addresses only;
        the check is on the very address that is then connected to, so a changing DNS answer changes nothing.
    """

    def __init__(self, trusted: Callable[[str, int], bool]) -> None:
        self._clock = _Clock()
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=30,
            network_backend=_Network(trusted, self._clock),
        )

    def get(self, url: httpx.URL, headers: Mapping[str, str], *, max_bytes: int, deadline: float) -> Reply:
        """One request, by a deadline of time.monotonic(); redirects are left to the caller.

        Raises PrivateAddress, BodyTooLarge, or httpcore's TimeoutException, NetworkError and ProtocolError.
        """
        self._clock.deadline = deadline
        try:
            return self._get(url, headers, max_bytes)
        except (httpcore.NetworkError, httpcore.RemoteProtocolError):
            # the server may have closed an idle connection just as it was taken
            return self._get(url, headers, max_bytes)

    def close(self) -> None:
        self._pool.close()

    def _get(self, url: httpx.URL, headers: Mapping[str, str], max_bytes: int) -> Reply:
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        with self._pool.stream("GET", target, headers=list(headers.items())) as response:
            found = 200 <= response.status < 300
            body = bytearray()
            for chunk in response.iter_stream():
                body += chunk
                if found and len(body) > max_bytes:
                    raise BodyTooLarge
                if not found and len(body) > ERROR_BODY_BYTES:
                    break
            location = next((value for name, value in response.headers if name.lower() == b"location"), b"")
            return Reply(response.status, location.decode("ascii", "replace"), bytes(body))


def is_public(address: str) -> bool:
    """Whether an IP address is that of a host on the public internet.

    IPv6 that carries an IPv4 address (mapped, NAT64, 6to4, Teredo) does not count as public.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        return ip in IPV6_UNICAST and ip.is_global and ip.sixtofour is None and ip.teredo is None
    return _is_public_ipv4(ip)


def _is_public_ipv4(ip: IPv4Address) -> bool:
    return (
        ip.is_global
        and not (ip.is_multicast or ip.is_reserved)
        and not any(ip in network for network in NOT_PUBLIC)
    )


class _Clock(threading.local):
    """The deadline of this thread's request. httpcore's own timeouts start anew with each byte."""

    deadline = 0.0

    def left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left


class _Network(httpcore.SyncBackend):
    def __init__(self, trusted: Callable[[str, int], bool], clock: _Clock) -> None:
        self._trusted = trusted
        self._clock = clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolve(host, port)
        if not self._trusted(host, port) and not all(map(is_public, addresses)):
            raise PrivateAddress(host)
        for i, address in enumerate(addresses):
            try:
                stream = super().connect_tcp(
                    address, port, self._clock.left() / (len(addresses) - i), local_address, socket_options
                )
                return _Stream(stream, self._clock)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if i == len(addresses) - 1:
                    raise
        raise httpcore.ConnectError(f"{host} has no address")


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError) as error:
        raise httpcore.ConnectError(str(error)) from None
    return list(dict.fromkeys(str(address[4][0]) for address in found))


class _Stream(httpcore.NetworkStream):
    """A connection of which every step may take what is left until the request's deadline."""

    def __init__(self, stream: httpcore.NetworkStream, clock: _Clock) -> None:
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._clock.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._clock.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._clock.left())
        return _Stream(stream, self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
