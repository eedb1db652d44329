"""A proxy between a program and an HTTP server that breaks requests when it is told to.

It is a thread of the test, so a test says what goes wrong next and afterwards counts what was asked.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

CODES = {403: "AccessDenied", 404: "NoSuchKey", 429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}
CLOSE_AT_ONCE = struct.pack("ii", 1, 0)
"""For SO_LINGER: the other side gets a reset instead of an orderly end."""


@dataclass(frozen=True)
class Fault:
    """What happens to one request; all fields as they are: nothing."""

    status: int = 0
    """Answer with this status instead of asking the server; 0 for not."""
    cut: bool = False
    """Reset the connection in the middle of the body."""
    hang_up: bool = False
    """Reset the connection before any answer."""
    delay_s: float = 0.0


SOUND = Fault()


@dataclass
class FaultyProxy:
    """What the test holds in its hands."""

    server: str
    """Host and port of the server behind."""
    endpoint: str = ""
    requests: list[str] = field(default_factory=list)
    """Method and path of every request since the last instruction, in order."""
    _faults: list[Fault] = field(default_factory=list)
    _method: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, count: int, status: int, method: str = "") -> None:
        """Answer the next `count` requests (of that method, if one is named) with an error of S3."""
        self._break(count, Fault(status=status), method)

    def cut(self, count: int, method: str = "GET") -> None:
        """Reset the next `count` answers after half of the body."""
        self._break(count, Fault(cut=True), method)

    def hang_up(self, count: int, method: str = "") -> None:
        """Reset the next `count` connections without an answer."""
        self._break(count, Fault(hang_up=True), method)

    def delay(self, count: int, seconds: float, method: str = "") -> None:
        """Let the next `count` requests wait."""
        self._break(count, Fault(delay_s=seconds), method)

    def heal(self) -> None:
        """From now on every request passes."""
        self._break(0, SOUND, "")

    def _break(self, count: int, fault: Fault, method: str) -> None:
        with self._lock:
            self._faults, self._method = [fault] * count, method
            self.requests.clear()

    def next_fault(self, method: str, path: str) -> Fault:
        with self._lock:
            self.requests.append(f"{method} {path}")
            return self._faults.pop() if self._faults and self._method in {"", method} else SOUND


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[FaultyProxy]

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # told to break off, or the client gave up waiting
            self.close_connection = True

    def pass_on(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.next_fault(self.command, self.path)
        time.sleep(fault.delay_s)
        if fault.hang_up:
            self.reset()
        elif fault.status:
            self.answer(fault.status, [("Content-Type", "application/xml")], _error_document(fault.status))
        else:
            status, headers, body = self.ask_server(content)
            self.answer(status, headers, body, cut=fault.cut)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815 - the names that http.server looks for

    def ask_server(self, content: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.proxy.server)
        try:
            connection.request(self.command, self.path, content, dict(self.headers.items()))
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(body)))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            time.sleep(0.05)  # a reset overtakes what was sent just before
            self.reset()

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_AT_ONCE)
        self.rfile.close()
        self.connection.close()
        raise ConnectionResetError

    def log_message(self, *_: object) -> None:
        """Nothing: the test counts requests itself."""


def _error_document(status: int) -> bytes:
    code = CODES.get(status, "Unknown")
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>told to fail</Message></Error>'.encode()


@contextmanager
def faulty_proxy(endpoint: str) -> Iterator[FaultyProxy]:
    """A proxy before the server at `endpoint`, without a fault yet."""
    proxy = FaultyProxy(urlsplit(endpoint).netloc)
    handler = type("_ProxyHandler", (_Handler,), {"proxy": proxy})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        proxy.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, name="faulty-proxy", daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
