# SPDX-License-Identifier: BSD-3-Clause
"""A TCP proxy before a database that does what networks, servers and administrators do.

    with TcpProxy(server.port) as proxy:
        server.url("db", port=proxy.port)
        proxy.latency_s = 0.005     # of each piece that a client sends
        proxy.refuse()              # nobody listens, and who is connected is cut off
        proxy.stall()               # nothing passes any more, in either direction; new connections are taken
        proxy.cut_after(10000)      # the next connection that gets so many bytes is reset in the middle of them
        proxy.heal()
"""

from __future__ import annotations

import queue
import select
import socket
import struct
import threading
import time
from typing import Any


class TcpProxy:
    def __init__(self, upstream: int):
        self.upstream, self.latency_s = upstream, 0.0
        self.connections = 0
        self._cut_after: int | None = None
        self._moving = threading.Event()
        self._moving.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._ended = False
        self.port = 0
        self._listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended = True
        self._moving.set()
        self.refuse()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener

    # --------------------------------------------------------------------------------- what may happen

    def cut(self) -> None:
        """Every connection is reset; new ones are welcome."""
        with self._lock:
            for s in self._open:
                try:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def stall(self) -> None:
        self._moving.clear()

    def cut_after(self, size: int) -> None:
        self._cut_after = size

    def heal(self) -> None:
        self._moving.set()
        if not self._listener:
            self._listen()

    # ----------------------------------------------------------------------------------------- the work

    def _accept(self) -> None:
        while not self._ended:
            listener = self._listener
            try:
                if not listener or not select.select([listener], [], [], 0.05)[0]:
                    time.sleep(0.01)
                    continue
                client, _ = listener.accept()
            except (OSError, ValueError):
                continue
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.upstream))
            except OSError:
                client.close()
                continue
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open.add(s)
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _read(self, source: socket.socket, came: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            came.put((time.monotonic(), data))

    def _pass(self, source: socket.socket, to: socket.socket, is_up: bool) -> None:
        passed = 0
        # Read apart, as pieces that follow each other closely are on their way at the same time.
        came: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(source, came), daemon=True).start()
        try:
            while True:
                at, data = came.get()
                if not data:
                    break
                self._moving.wait()
                if is_up and self.latency_s:
                    time.sleep(max(0, at + self.latency_s - time.monotonic()))
                if not is_up and self._cut_after is not None and passed + len(data) > self._cut_after:
                    to.sendall(data[: self._cut_after - passed])
                    self._cut_after = None
                    to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                to.sendall(data)
                passed += len(data)
        except OSError:
            pass
        for s in (source, to):
            with self._lock:
                self._open.discard(s)
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
