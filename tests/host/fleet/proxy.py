"""A TCP proxy that misbehaves like a cable: cut, held up, refused."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_POLL_S = 0.1


class Proxy:
    """Passes connections on to `target` until told otherwise.

    Args:
        target: HOST:PORT of the agent.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._closed = False
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL_S)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._flowing.set()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=5.0)
        self._listener.close()

    def cut(self) -> None:
        """Break every connection; new ones are taken."""
        with self._lock:
            cut, self._open = self._open, []
        for end in cut:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def refuse(self, *, yes: bool) -> None:
        """Break every connection, and every new one at once, or stop doing so."""
        self._refusing = yes
        if yes:
            self.cut()

    def hold(self, *, yes: bool) -> None:
        """Let nothing through, and break nothing, or let it flow again."""
        if yes:
            self._flowing.clear()
        else:
            self._flowing.set()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            if self._refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(self._target, timeout=5.0)
            except OSError:
                near.close()
                continue
            self.connections += 1
            with self._lock:
                self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                source.settimeout(None)
                thread = threading.Thread(target=self._pump, args=(source, sink), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
