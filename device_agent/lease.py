"""Who may use the device: one holder at a time, the others wait their turn.

Pure: a book and a moment go in, a book comes out. `lease_desk.py` keeps the book on the disk and
answers calls. Nothing happens between calls: a lease that nobody asks after does not end, it is
found to have ended by the next who asks.

Every lease has a fencing token, higher than all before it. Jobs carry it, so one that was sent
under a lease that is over is told from the holder's own, however late it arrives.

Source: Gray and Cheriton (1989), Leases, for the duration; Burrows (2006), The Chubby lock
service, section 2.4, for the token (there: sequencer).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from boardfront.protos.records import (
    AcquireLeaseReply,
    AcquireLeaseRequest,
    LeaseParty,
    LeaseState,
    LeaseStatus,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Of the holder, or of one who waits.

    Args:
        lease_id: Known to its client alone.
        name: For people.
        priority: Higher is served first.
        duration_s: Without a call for so long it is lost.
        since_s: When it was taken, on a clock that is never set.
        expires_s: When it is lost, on the same clock.
    """

    lease_id: str
    name: str
    priority: int
    duration_s: float
    since_s: float
    expires_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Book:
    """Who holds the device and who waits.

    Args:
        last_token: The highest that was given out; the holder's, if there is one.
        row_start: First token of the leases that the last holder had with no other in between:
            its jobs under all of them are its own.
        last_lease_id: Who held the device last, or holds it.
        holder: None: the device is free, and nobody waits.
        waiting: In the order in which they will be served.
    """

    last_token: int = 0
    row_start: int = 1
    last_lease_id: str = ""
    holder: Place | None = None
    waiting: tuple[Place, ...] = ()

    def accepts(self, token: int) -> bool:
        """Whether a job with this token may be submitted; 0 is no lease's."""
        return token == (0 if self.holder is None else self.last_token)

    def keeps(self, token: int) -> bool:
        """Whether a job that was submitted with this token may run.

        When a lease ends and nobody waits, its jobs go on: a cable that was pulled for a minute
        costs nothing.
        """
        return self.holder is None if token == 0 else token >= self.row_start

    def position(self, lease_id: str) -> int:
        """Return how many are served before; 0 for the holder.

        Raises:
            ValueError: If this lease neither holds nor waits.
        """
        if self.holder is not None and self.holder.lease_id == lease_id:
            return 0
        return 1 + [place.lease_id for place in self.waiting].index(lease_id)


def acquire(
    book: Book, request: AcquireLeaseRequest, now_s: float
) -> tuple[Book, AcquireLeaseReply]:
    """Take the device if it is free, else a place in the queue; or renew either."""
    book = expire(book, now_s)
    known = _find(book, request.lease_id)
    place = Place(
        lease_id=request.lease_id,
        name=request.holder,
        priority=request.priority,
        duration_s=request.duration_s,
        since_s=now_s if known is None else known.since_s,
        expires_s=now_s + request.duration_s,
    )
    if known is not None and known is book.holder:
        book = replace(book, holder=place)
    else:
        book = _serve(replace(book, waiting=_queue(book.waiting, place)), now_s)
    return book, _reply(book, place, now_s)


def release(book: Book, lease_id: str, now_s: float) -> Book:
    """Give the device, or a place in the queue, back; the next is served at once."""
    book = expire(book, now_s)
    holder = book.holder
    if holder is not None and holder.lease_id == lease_id:
        holder = None
    waiting = tuple(place for place in book.waiting if place.lease_id != lease_id)
    return _serve(replace(book, holder=holder, waiting=waiting), now_s)


def expire(book: Book, now_s: float) -> Book:
    """Drop who fell silent; if that was the holder, the next is served."""
    holder = book.holder
    if holder is not None and holder.expires_s <= now_s:
        holder = None
    waiting = tuple(place for place in book.waiting if place.expires_s > now_s)
    return _serve(replace(book, holder=holder, waiting=waiting), now_s)


def revive(book: Book, now_s: float) -> Book:
    """Give everybody a full duration from now: the silence was the agent's own."""

    def again(place: Place) -> Place:
        return replace(place, since_s=now_s, expires_s=now_s + place.duration_s)

    holder = None if book.holder is None else again(book.holder)
    return replace(book, holder=holder, waiting=tuple(again(place) for place in book.waiting))


def status(book: Book, now_s: float) -> LeaseStatus:
    """Tell who is there, without what only they may know."""
    return LeaseStatus(
        holder=None if book.holder is None else _party(book.holder, now_s),
        waiting=tuple(_party(place, now_s) for place in book.waiting),
    )


def _find(book: Book, lease_id: str) -> Place | None:
    everybody = (*((book.holder,) if book.holder else ()), *book.waiting)
    return next((place for place in everybody if place.lease_id == lease_id), None)


def _queue(waiting: tuple[Place, ...], place: Place) -> tuple[Place, ...]:
    """Put a place where it belongs: by priority, and within one by arrival."""
    names = [other.lease_id for other in waiting]
    if place.lease_id in names:
        index = names.index(place.lease_id)
        waiting = (*waiting[:index], place, *waiting[index + 1 :])
    else:
        waiting = (*waiting, place)
    # Sorting keeps the order of equals, which is that of arrival.
    return tuple(sorted(waiting, key=lambda other: -other.priority))


def _serve(book: Book, now_s: float) -> Book:
    """Give a free device to the first who waits."""
    if book.holder is not None or not book.waiting:
        return book
    first, *rest = book.waiting
    token = book.last_token + 1
    return Book(
        last_token=token,
        row_start=book.row_start if first.lease_id == book.last_lease_id else token,
        last_lease_id=first.lease_id,
        holder=replace(first, since_s=now_s),
        waiting=tuple(rest),
    )


def _reply(book: Book, place: Place, now_s: float) -> AcquireLeaseReply:
    position = book.position(place.lease_id)
    return AcquireLeaseReply(
        state=LeaseState.WAITING if position else LeaseState.HELD,
        fencing_token=0 if position else book.last_token,
        expires_in_s=place.duration_s,
        position=position,
        status=status(book, now_s),
    )


def _party(place: Place, now_s: float) -> LeaseParty:
    return LeaseParty(
        name=place.name,
        priority=place.priority,
        since_s=now_s - place.since_s,
        expires_in_s=max(0.0, place.expires_s - now_s),
    )
