"""A client that costs little: gRPC's frames over sockets, in one thread.

A client of grpc's own takes about as long for a call as an empty server does, so
that it would measure itself. Here the headers of a call are the same bytes each time,
and of an answer only what is needed is looked at: whether it has a message.

Latencies of an open loop count from when the request was to be sent, not from when it
was: a server that stalls is charged for all whom it kept waiting.

References:
    RFC 9113, HTTP/2; https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple, Self

__all__ = ["Client", "Load"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_WINDOW = 65_535  # What either side may send before it hears more.
_WINDOW_MAX = 2**31 - 1
_RECEIVE_BYTES = 1 << 18
_DRAIN_S = 10.0
_HEAD = struct.Struct("!BHBBI")  # Of a frame.


class _Kind(IntEnum):
    """The kinds of frames that calls are made of."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8


class Load(NamedTuple):
    """What a server did under load.

    Attributes:
        seconds: From the first request to the last answer.
        latencies_ms: How long each request took, in the order of the answers.
        failures: How many requests were not answered with a message.
    """

    seconds: float
    latencies_ms: list[float]
    failures: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies_ms) / self.seconds


class Client:
    """Calls one method of one server, over some connections.

    Args:
        address: The server's, as host:port.
        method: The path of the method, such as `/package.Service/Method`.
        connections: How many connections the calls are spread over.
    """

    def __init__(self, address: str, method: str, *, connections: int = 4) -> None:
        headers = _headers(address, method)
        self._wires = [_Wire(address, headers) for _ in range(connections)]
        self._next = 0
        self._failures = 0
        self._latencies_ms: list[float] = []
        self.last_message = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for wire in self._wires:
            wire.close()

    def closed_loop(
        self, requests: Iterator[bytes], *, in_flight: int, seconds: float
    ) -> Load:
        """Send a request whenever fewer than `in_flight` wait for their answers."""
        started = time.perf_counter()
        end = started + seconds

        def send_due(now: float) -> float | None:
            if now >= end:
                return None
            for _ in range(in_flight - self._waiting()):
                self._send(next(requests), now)
            return end

        return self._run(send_due, started, end)

    def open_loop(
        self, requests: Iterator[bytes], *, rate: float, seconds: float
    ) -> Load:
        """Send `rate` requests a second, evenly, whether answers come or not."""
        started = time.perf_counter()
        end = started + seconds
        due = started

        def send_due(now: float) -> float | None:
            nonlocal due
            while due <= now and due < end:
                self._send(next(requests), due)
                due += 1.0 / rate
            return due if due < end else None

        return self._run(send_due, started, end)

    def _waiting(self) -> int:
        return sum(len(wire.sent) for wire in self._wires)

    def _send(self, message: bytes, at: float) -> None:
        self._next = (self._next + 1) % len(self._wires)
        self._wires[self._next].send(message, at)

    def _run(
        self, send_due: Callable[[float], float | None], started: float, end: float
    ) -> Load:
        """Send what is due and read what has come, until both are over."""
        self._latencies_ms, self._failures = [], 0
        while True:
            now = time.perf_counter()
            due = send_due(now)
            if due is None and self._waiting() == 0:
                break
            if now > end + _DRAIN_S:
                self._failures += self._waiting()
                break
            for wire in self._wires:
                wire.flush()
            self._receive(0.1 if due is None else max(due - time.perf_counter(), 0.0))
        return Load(time.perf_counter() - started, self._latencies_ms, self._failures)

    def _receive(self, timeout_s: float) -> None:
        readable, _, _ = select.select(self._wires, [], [], timeout_s)
        now = time.perf_counter()
        for wire in readable:
            for sent_at, message in wire.receive():
                if message is None:
                    self._failures += 1
                    continue
                self._latencies_ms.append((now - sent_at) * 1e3)
                self.last_message = message


class _Wire:
    """One connection, and the calls that are under way on it."""

    def __init__(self, address: str, headers: bytes) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = headers
        self._received = b""
        self._stream = 1
        self._window = _WINDOW
        self._held: list[bytes] = []
        self._out = bytearray(_PREFACE + _frame(_Kind.SETTINGS, 0, 0, b""))
        # Answers are small: say once that they all may come.
        more = struct.pack("!I", _WINDOW_MAX - _WINDOW)
        self._out += _frame(_Kind.WINDOW_UPDATE, 0, 0, more)
        self.sent: dict[int, float] = {}
        self._messages: dict[int, bytes] = {}

    def fileno(self) -> int:
        """Return what `select` waits for."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def send(self, message: bytes, at: float) -> None:
        """Begin a call; `flush` sends it."""
        stream, self._stream = self._stream, self._stream + 2
        self.sent[stream] = at
        self._out += _frame(_Kind.HEADERS, _END_HEADERS, stream, self._headers)
        body = b"\0" + struct.pack("!I", len(message)) + message
        self._held.append(_frame(_Kind.DATA, _END_STREAM, stream, body))

    def flush(self) -> None:
        """Send what was begun, as far as the server lets us."""
        sendable = 0
        for frame in self._held:
            if len(frame) - 9 > self._window:
                break
            self._window -= len(frame) - 9
            self._out += frame
            sendable += 1
        del self._held[:sendable]
        if self._out:
            self._socket.sendall(self._out)
            self._out.clear()

    def receive(self) -> Iterator[tuple[float, bytes | None]]:
        """Read what has come; return of each answer when its call began, and it.

        There is no message where the call failed.
        """
        chunk = self._socket.recv(_RECEIVE_BYTES)
        if not chunk:
            raise ConnectionError("the server hung up")
        received = self._received + chunk
        at = 0
        while len(received) >= at + 9:
            # The length has three bytes: the first of the four is the upper one.
            high, low, kind, flags, stream = _HEAD.unpack_from(received, at)
            end = at + 9 + (high << 16 | low)
            if len(received) < end:
                break
            answer = self._handle(kind, flags, stream, received[at + 9 : end])
            if answer is not None:
                yield answer
            at = end
        self._received = received[at:]

    def _handle(
        self, kind: int, flags: int, stream: int, body: bytes
    ) -> tuple[float, bytes | None] | None:
        """Do what a frame asks for; return the answer that it ends, if it ends one."""
        match kind:
            case _Kind.DATA:
                self._messages[stream] = self._messages.get(stream, b"") + body
            case _Kind.PING if not flags & _ACK:
                self._out += _frame(_Kind.PING, _ACK, 0, body)
            case _Kind.SETTINGS if not flags & _ACK:
                self._out += _frame(_Kind.SETTINGS, _ACK, 0, b"")
            case _Kind.WINDOW_UPDATE if stream == 0:
                self._window += int.from_bytes(body, "big")
            case _Kind.GOAWAY:
                raise ConnectionError("the server goes away")
        ended = kind == _Kind.RST_STREAM or (
            kind in (_Kind.DATA, _Kind.HEADERS) and flags & _END_STREAM
        )
        if not ended or stream not in self.sent:
            return None
        message = self._messages.pop(stream, None)
        return self.sent.pop(stream), None if message is None else message[5:]


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return _HEAD.pack(len(body) >> 16, len(body) & 0xFFFF, kind, flags, stream) + body


def _headers(address: str, method: str) -> bytes:
    """Return the headers of a call, each written out, none remembered."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": address,
        "content-type": "application/grpc",
        "te": "trailers",  # codespell:ignore te
        "grpc-timeout": "30S",
    }
    return b"".join(
        b"\0" + _text(name) + _text(value) for name, value in fields.items()
    )


def _text(text: str) -> bytes:
    """Write a text of at most 126 characters as HPACK has it, uncompressed."""
    if len(text) > 126:
        raise ValueError(f"too long for a header: {text!r}")
    return bytes([len(text)]) + text.encode()
