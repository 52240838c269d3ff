# SPDX-License-Identifier: BSD-3-Clause
"""A proxy before an S3 server that counts, and does what networks and bad servers do.

    with S3Proxy(server.port) as proxy:
        server.options(proxy.url), server.client(proxy.url)
        proxy.latency_s = 0.02                        # of every answer
        proxy.fault(cut_after=1000, times=2)          # the next two GETs break off after 1000 bytes of the body
        proxy.fault(status=503, headers={"Retry-After": "1"}, method="HEAD", key="some/key")
        proxy.requests["GET"], proxy.bytes, proxy.log

It changes nothing else: signatures stay right, as the Host field is passed on.
"""
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass
class Request:
    method: str
    path: str       # decoded, without the query
    query: str
    headers: dict[str, str]
    at: float


@dataclass
class Fault:
    times: int = 1                    # how often; -1: always
    method: str = "GET"               # of which requests
    key: str | None = None            # whose path ends so
    query: str = ""                   # whose query has this in it
    delay_s: float = 0.0              # before anything
    cut_after: int | None = None      # bytes of the body, then a reset
    stall_after: int | None = None    # bytes of the body, then nothing until release()
    flip: bool = False                # the first byte of the body
    status: int | None = None         # an answer of the proxy's own
    headers: dict[str, str] = field(default_factory=dict)  # of that, or put in place of the server's
    body: bytes = b""
    reset: bool = False               # the connection, before an answer
    flip_sent: bool = False           # the first byte of the body on its way to the server
    lose_answer: bool = False         # the server does it, and nobody hears of it
    then: Callable[[], object] | None = None # called when the request was read; of lose_answer, when the server has done it

    def fits(self, request: Request) -> bool:
        return request.method == self.method and (self.key is None or request.path.endswith(self.key)) and self.query in request.query


class S3Proxy:
    def __init__(self, upstream: int):
        self.upstream = upstream
        self.latency_s = 0.0
        self.requests: Counter[str] = Counter()
        self.bytes = 0                 # of bodies, to the client
        self.bytes_of: Counter[str] = Counter() # likewise, by path
        self.connections = 0
        self.log: list[Request] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fault(self, **what) -> Fault:
        with self._lock:
            self._faults.append(Fault(**what))
            return self._faults[-1]

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
        self.release()

    def release(self) -> None:
        """What stalls ends (its connections are closed)."""
        self._released.set()
        self._released = threading.Event()

    def reset_counts(self) -> None:
        with self._lock:
            self.requests.clear()
            self.log.clear()
            self.bytes_of.clear()
            self.bytes = self.connections = 0

    def cut_all(self) -> None:
        """Every connection is reset."""
        with self._lock:
            open_now = list(self._open)
        for s in open_now:
            _reset(s)

    def close(self) -> None:
        self._listener.close()
        self.release()
        self.cut_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- inside

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._open.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = None
        reader = client.makefile("rb")
        try:
            while (head := _read_head(reader)) is not None:
                request = _parse_request(head)
                body = _read_body(reader, request.headers)
                fault = self._take(request)
                if fault and fault.then and not fault.lose_answer:
                    fault.then()
                if fault and fault.delay_s:
                    time.sleep(fault.delay_s)
                if fault and fault.reset:
                    _reset(client)
                    return
                if fault and fault.status:
                    client.sendall(_own_answer(request, fault))
                    continue
                if server is None:
                    server = socket.create_connection(("127.0.0.1", self.upstream))
                    answers = server.makefile("rb")
                if fault and fault.flip_sent and body:
                    body = bytes([body[0] ^ 1]) + body[1:]
                server.sendall(head + body)
                if fault and fault.lose_answer:
                    _read_head(answers)
                    if fault.then:
                        fault.then()
                    _reset(client)
                    return
                if not self._relay(request, answers, client, fault):
                    return
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(client)
            client.close()
            if server:
                server.close()

    def _take(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests[request.method] += 1
            self.log.append(request)
            for fault in self._faults:
                if fault.times and fault.fits(request):
                    fault.times -= 1 if fault.times > 0 else 0
                    return fault
        return None

    def _relay(self, request: Request, answers, client: socket.socket, fault: Fault | None) -> bool:
        """One answer of the server; false: the connection is of no more use."""
        head = _read_head(answers)
        if head is None:
            return False
        headers = _fields(head)
        if fault and fault.headers:
            head = _replace_fields(head, fault.headers)
        if self.latency_s:
            time.sleep(self.latency_s)
        client.sendall(head)
        status = int(head.split(b" ", 2)[1])
        if request.method == "HEAD" or status in (204, 304) or status < 200:
            return True
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._relay_chunks(request, answers, client)
        left = int(headers["content-length"]) if "content-length" in headers else None
        return self._relay_body(request, answers, client, left, fault)

    def _relay_body(self, request: Request, answers, client, left: int | None, fault: Fault | None) -> bool:
        sent = 0
        while left is None or left > 0:
            limit = 1 << 18 if left is None else min(1 << 18, left)
            for stop in (fault and fault.cut_after, fault and fault.stall_after):
                if stop is not None:
                    limit = min(limit, stop - sent)
            if limit == 0:
                if fault.stall_after is not None:
                    self._released.wait(120)
                _reset(client)
                return False
            data = answers.read1(limit)
            if not data:
                return False
            if fault and fault.flip and sent == 0:
                data = bytes([data[0] ^ 1]) + data[1:]
            self._count(request, len(data)) # before anybody can go on with it
            client.sendall(data)
            sent += len(data)
            if left is not None:
                left -= len(data)
        return left is not None

    def _count(self, request: Request, size: int) -> None:
        with self._lock:
            self.bytes += size
            self.bytes_of[request.path] += size

    def _relay_chunks(self, request: Request, answers, client) -> bool:
        while True:
            line = answers.readline()
            size = int(line.split(b";")[0], 16)
            data = answers.read(size + 2) if size else _read_head(answers, at_once=True)
            self._count(request, size)
            client.sendall(line + data)
            if not size:
                return True


def _reset(s: socket.socket) -> None:
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.shutdown(socket.SHUT_RD)
        s.close()
    except OSError:
        pass


def _read_head(reader, at_once: bool = False) -> bytes | None:
    lines = []
    while True:
        line = reader.readline(65536)
        if not line:
            return None
        lines.append(line)
        if line in (b"\r\n", b"\n"):
            if lines[:-1] or at_once:
                return b"".join(lines)
            lines.clear()


def _fields(head: bytes) -> dict[str, str]:
    found = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip().lower()] = value.strip()
    return found


def _replace_fields(head: bytes, fields: dict[str, str]) -> bytes:
    lines = head.decode("latin-1").split("\r\n")
    kept = [line for line in lines[:-2] if line.partition(":")[0].strip().lower() not in {n.lower() for n in fields}]
    return "\r\n".join(kept + [f"{n}: {v}" for n, v in fields.items()] + ["", ""]).encode("latin-1")


def _parse_request(head: bytes) -> Request:
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    parts = urlsplit(re.sub("^/+", "/", target))
    return Request(method, unquote(parts.path), parts.query, _fields(head), time.monotonic())


def _read_body(reader, headers: dict[str, str]) -> bytes:
    return reader.read(int(headers.get("content-length", 0)))


def _own_answer(request: Request, fault: Fault) -> bytes:
    lines = [f"HTTP/1.1 {fault.status} Fault"]
    fields = {"Content-Length": str(len(fault.body)), **fault.headers}
    lines += [f"{name}: {value}" for name, value in fields.items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    return head if request.method == "HEAD" else head + fault.body
