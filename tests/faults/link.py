"""A network between a host and an agent that is as bad as a test wants it."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_POLL_S = 0.1
_PACKET_BYTES = 16 << 10
_RETRANSMIT_S = 0.2
"""Linux sends a lost packet again after this long at the soonest, then after twice as long."""
_RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Connection:
    near: socket.socket
    far: socket.socket
    flowing: threading.Event = field(default_factory=threading.Event)

    def end(self, *, reset: bool = False) -> None:
        self.flowing.set()
        for side in (self.near, self.far):
            with contextlib.suppress(OSError):
                if reset:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                side.shutdown(socket.SHUT_RDWR)
            side.close()


class Link:
    """A TCP proxy. What goes wrong is set and called from the test, at any time.

    TCP hides lost packets: what a program sees of them is that everything behind a lost one
    comes later, by the time until it was sent again. That is what `loss` does.

    Args:
        target: HOST:PORT of the agent.
        seed: Of the losses.

    Attributes:
        delay_s: How long everything takes in each direction, in seconds.
        loss: Share of packets that are lost.
        connections: Number of connections taken so far.
        sent_bytes: Of all connections together, towards the agent.
        on_cut: Called after a cut that `cut_after` asked for.
    """

    def __init__(self, target: str, *, seed: int = 0) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._random = random.Random(seed)  # noqa: S311 - losses, not secrets
        self._lock = threading.Lock()
        self._open: list[_Connection] = []
        self._frozen: list[_Connection] = []
        self._cuts: list[int] = []
        self._counted_from = 0
        self._refusing = self._swallowing = self._closed = False
        self.delay_s = 0.0
        self.loss = 0.0
        self.connections = 0
        self.sent_bytes = 0
        self.on_cut: Callable[[], None] = lambda: None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL_S)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        for connection in (*self._take_open(), *self._frozen):
            connection.end()
        for thread in self._threads:
            thread.join(timeout=5.0)
        self._listener.close()

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        for connection in self._take_open():
            connection.end(reset=True)

    def cut_after(self, *sizes_bytes: int) -> None:
        """Cut when so many bytes more went to the agent, then after so many more, and so on."""
        with self._lock:
            self._cuts = list(sizes_bytes)
            self._counted_from = self.sent_bytes

    def refuse(self, *, yes: bool) -> None:
        """Cut every connection, and refuse every new one, or stop doing so."""
        self._refusing = yes
        if yes:
            self.cut()

    def freeze(self, *, new_ones: bool = False) -> None:
        """Leave the present connections half open: bytes vanish, and no end is ever told.

        Args:
            new_ones: Do the same to those made from now on, until `heal`.
        """
        self._swallowing = new_ones
        for connection in self._take_open():
            connection.flowing.clear()
            self._frozen.append(connection)

    def heal(self) -> None:
        """Be a good network for connections made from now on."""
        self._refusing = self._swallowing = False
        self.delay_s = self.loss = 0.0
        with self._lock:
            self._cuts = []

    def _take_open(self) -> list[_Connection]:
        with self._lock:
            taken, self._open = self._open, []
        return taken

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            far = None if self._refusing else self._reach()
            if far is None:
                near.close()
            else:
                self._take(near, far)

    def _reach(self) -> socket.socket | None:
        try:
            return socket.create_connection(self._target, timeout=5.0)
        except OSError:
            return None

    def _take(self, near: socket.socket, far: socket.socket) -> None:
        self.connections += 1
        connection = _Connection(near, far)
        if self._swallowing:
            self._frozen.append(connection)
        else:
            connection.flowing.set()
            with self._lock:
                self._open.append(connection)
        for source, sink in ((near, far), (far, near)):
            source.settimeout(None)
            under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            self._start(self._receive, source, under_way)
            self._start(self._send, connection, sink, under_way)

    def _receive(
        self, source: socket.socket, under_way: queue.SimpleQueue[tuple[float, bytes]]
    ) -> None:
        data = b"begin"
        while data:
            try:
                data = source.recv(_PACKET_BYTES)
            except OSError:
                data = b""
            under_way.put((time.monotonic() + self.delay_s, data))

    def _send(
        self,
        connection: _Connection,
        sink: socket.socket,
        under_way: queue.SimpleQueue[tuple[float, bytes]],
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                due_s, data = under_way.get()
                time.sleep(max(0.0, due_s - time.monotonic()) + self._retransmissions_s(data))
                connection.flowing.wait()
                if not data:
                    break
                sink.sendall(data)
                if sink is connection.far:
                    self._count(len(data))
        with self._lock:
            if connection in self._open:
                self._open.remove(connection)
        connection.end()

    def _retransmissions_s(self, data: bytes) -> float:
        waited_s, again_s = 0.0, _RETRANSMIT_S
        while data and self._random.random() < self.loss:
            waited_s += again_s
            again_s *= 2
        return waited_s

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self.sent_bytes += size_bytes
            due = bool(self._cuts) and self.sent_bytes - self._counted_from >= self._cuts[0]
            if due:
                self._cuts.pop(0)
                self._counted_from = self.sent_bytes
        if due:
            self.cut()
            self.on_cut()
