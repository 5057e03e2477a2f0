"""The device's lease book behind its calls: thread-safe, and on the disk before it is told."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from boardfront.device_agent import lease
from boardfront.device_agent.lease import Book, Place
from boardfront.protos.errors import BoardfrontError, LeaseLostError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from boardfront.protos.records import AcquireLeaseReply, AcquireLeaseRequest, LeaseStatus

_log = logging.getLogger(__name__)

_LEASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_LONGEST_NAME = 200
_MIN_DURATION_S = 0.1
_MAX_DURATION_S = 600.0
_MAX_WAITING = 64
_OF_THE_MOMENT = ("since_s", "expires_s")


class LeaseQueueFullError(BoardfrontError):
    """More wait for the device than are let in."""


class LeaseDesk:
    """Keeps the device's lease book. Thread-safe.

    Args:
        path: Where the book lies; read at the start.
        clock: Seconds that nobody sets: a clock put back must not lengthen a lease.
        wall_clock: Seconds since 1970; where there is no book yet, tokens begin here, so that
            they go on growing though the device's folder was deleted.

    A restart keeps holder, queue and tokens, and gives everybody one full duration.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._book = lease.revive(_read(path, wall_clock), clock())

    def acquire(self, request: AcquireLeaseRequest) -> AcquireLeaseReply:
        """Take the device, wait for it, or renew.

        Raises:
            WrongInputError: If the request breaks the rules.
            LeaseQueueFullError: If too many wait.
            BoardfrontError: If the disk does not take it: a token that a restart could give
                out again is never told.
        """
        _check(request)
        request = replace(request, holder=_readable(request.holder))
        with self._lock:
            book, reply = lease.acquire(self._book, request, self._clock())
            if len(book.waiting) > max(_MAX_WAITING, len(self._book.waiting)):
                raise LeaseQueueFullError(
                    f"{_MAX_WAITING} wait for this device already: come back later"
                )
            self._keep(book)
        return reply

    def release(self, lease_id: str) -> None:
        """Give the device, or a place in the queue, back; unknown ids are no error."""
        with self._lock:
            self._keep(lease.release(self._book, lease_id, self._clock()))

    def status(self) -> LeaseStatus:
        """Tell who holds the device, and who waits."""
        with self._lock:
            now_s = self._clock()
            return lease.status(lease.expire(self._book, now_s), now_s)

    def book(self) -> Book:
        """Return the book as the next call would find it; nothing is given out by looking."""
        with self._lock:
            return lease.expire(self._book, self._clock())

    def refusal(self, token: int) -> LeaseLostError:
        """Return why a job with this token is not taken, or does not go on."""
        holder = self.book().holder
        held = "nobody holds the device" if holder is None else f"it is held by {holder.name}"
        if token == 0:
            return LeaseLostError(f"a job without a lease: {held}: acquire one, then submit")
        return LeaseLostError(
            f"lease {token} is over: {held}: acquire the device again, then submit again"
        )

    def _keep(self, book: Book) -> None:
        if _lasting(book) != _lasting(self._book):
            try:
                _write(self._path, _lasting(book))
            except BoardfrontError as error:
                if book.last_token != self._book.last_token:
                    raise
                # Nobody was served: after a restart somebody only stays for longer.
                _log.warning("%s", error)
        self._book = book


def _check(request: AcquireLeaseRequest) -> None:
    if not _LEASE_ID.fullmatch(request.lease_id):
        raise WrongInputError(
            f"lease id {request.lease_id[:128]!r}: expected 1 to 128 of A-Z a-z 0-9 _ -"
        )
    if not _MIN_DURATION_S <= request.duration_s <= _MAX_DURATION_S:
        raise WrongInputError(
            f"a lease of {request.duration_s:g} s: expected {_MIN_DURATION_S:g} to "
            f"{_MAX_DURATION_S:g} s, renewed in time"
        )


def _readable(name: str) -> str:
    """Return a name that does no harm on another's terminal."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in name[:_LONGEST_NAME])
    return clean.strip() or "somebody"


def _lasting(book: Book) -> dict[str, Any]:
    """Return what must survive a restart: all but the moments."""
    content = asdict(book)
    for place in (content["holder"], *content["waiting"]):
        for name in _OF_THE_MOMENT if place else ():
            del place[name]
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    try:
        # Lease ids are secrets: who knows one can renew the lease.
        with open(part, "w", opener=_private) as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            # Else a power cut may bring the old book back, and its tokens a second time.
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BoardfrontError(
            f"the agent cannot store its leases: {error}: make room on its disk"
        ) from error


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _read(path: Path, wall_clock: Callable[[], float]) -> Book:
    try:
        content = json.loads(path.read_text())
        holder = content["holder"]
        return Book(
            last_token=int(content["last_token"]),
            row_start=int(content["row_start"]),
            last_lease_id=str(content["last_lease_id"]),
            holder=None if holder is None else _place(holder),
            waiting=tuple(_place(place) for place in content["waiting"]),
        )
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read (%s): nobody holds the device now", path, error)
    last_token = max(0, int(wall_clock()))
    return Book(last_token=last_token, row_start=last_token + 1)


def _place(content: dict[str, Any]) -> Place:
    return Place(
        lease_id=str(content["lease_id"]),
        name=str(content["name"]),
        priority=int(content["priority"]),
        duration_s=float(content["duration_s"]),
        since_s=0.0,
        expires_s=0.0,
    )
