"""Holds one device for one run: takes its lease, renews it, waits for it, gives it back."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import platform
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host.fleet.client import AgentClient
from boardfront.protos.errors import BoardfrontError, LeaseLostError, WrongInputError
from boardfront.protos.records import AcquireLeaseReply, AcquireLeaseRequest, LeaseState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from boardfront.host.fleet.address import AgentAddress

_LONGEST_WAIT_S = 5.0
"""So often at least the next in line asks: for so long a device that got free is idle."""

_LOST_AFTER_S = 120.0
_LOOK_S = 0.5
_ENDS_WITHIN_S = 12.0


def lease_request(
    what: str, *, seed: str = "", priority: int = 0, duration_s: float = 30.0
) -> AcquireLeaseRequest:
    """Return what a run asks devices for.

    Args:
        what: For people, e.g. "run spos-3".
        seed: Names a run that may be resumed: it meets its own lease again, where another would
            have to wait until that has expired. Nobody else may be able to guess it.
        priority: Higher is served first.
        duration_s: Without a sign of life for so long the device goes to the next in line.
    """
    lease_id = hashlib.sha256(f"lease {seed}".encode()).hexdigest()[:32]
    return AcquireLeaseRequest(
        lease_id=lease_id if seed else uuid.uuid4().hex,
        holder=f"{_user()}@{platform.node()}, {what}",
        priority=priority,
        duration_s=duration_s,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Away:
    """The agent does not answer.

    Args:
        since_s: On the monotonic clock.
        error: What it did last.
    """

    since_s: float
    error: BoardfrontError


class LeaseKeeper:
    """Keeps the lease of one device, on a thread and a connection of its own.

    Nothing is asked of the device before the first `token`. A lease that was lost is asked for
    again at once, behind those who wait already. Give it to `AgentClient`, which needs no more.

    Args:
        address: Of the device's agent.
        request: See `lease_request`.
        device: What people call the device.
        say: Told in `token`, on its caller's thread, who is waited for.
        patience_s: A device that was lost to another is waited for as long; None: as it takes.
            The first lease is always waited for.
        lost_after_s: For so long `token` waits for an agent that has answered before. One that
            comes back later is asked all the same.
    """

    def __init__(
        self,
        address: AgentAddress,
        request: AcquireLeaseRequest,
        *,
        device: str,
        say: Callable[[str], None] = lambda _: None,
        patience_s: float | None = None,
        lost_after_s: float = _LOST_AFTER_S,
    ) -> None:
        self._request = request
        self._device = device
        self._say = say
        self._patience_s = patience_s
        self._lost_after_s = lost_after_s
        self._client = AgentClient(address)
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease {device}", daemon=True)
        self._stopping = False
        self._error: BaseException | None = None
        self._away: _Away | None = None
        self._asked = 0
        self._answered = 0
        self._reply: AcquireLeaseReply | None = None
        self._token = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def held(self) -> bool:
        """Whether the device was ours when it was asked last."""
        reply = self._reply
        return reply is not None and reply.state is LeaseState.HELD

    def token(self, *, refused: int = 0) -> int:
        """Return the token that goes into jobs; wait for the device if there is none yet.

        Args:
            refused: A token that the agent did not take (any more): a newer one is waited for.

        Raises:
            LeaseLostError: If the device went to another for longer than `patience_s`, or
                `stop` was called.
            DeviceUnreachableError: If the agent does not answer.
            WrongInputError: If it refuses the request.
        """
        with self._changed:
            if self._thread.ident is None and not self._stopping:
                self._thread.start()
            if self._token > refused:
                return self._token
            # An answer that is under way may have been given before the refusal.
            newer_than = self._asked if refused else 0
            self._wake.set()
        return self._await(newer_than, gives_up=bool(refused))

    def stop(self) -> None:
        """Have the device given back, and whoever waits for it told; return at once."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            if self._away is not None:
                # There is nobody to give anything back to: end the call that waits for one.
                self._client.abandon()
        self._wake.set()

    def close(self) -> None:
        """Give the device, or the place in its queue, back."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout=_ENDS_WITHIN_S)

    def _await(self, newer_than: int, *, gives_up: bool) -> int:
        said = ""
        began_s = time.monotonic()
        while True:
            with self._changed:
                self._check()
                reply = self._reply if self._answered > newer_than else None
                if reply is None or reply.state is LeaseState.WAITING:
                    self._changed.wait(timeout=_LOOK_S)
            if reply is None:
                continue
            if reply.state is LeaseState.HELD:
                if said:
                    self._say(f"{self._device} is free: going on")
                return reply.fencing_token
            line = self._waiting(reply, again=gives_up)
            waited_s = time.monotonic() - began_s
            if gives_up and self._patience_s is not None and waited_s > self._patience_s:
                raise LeaseLostError(line)
            if line != said:
                self._say(line)
                said = line

    def _check(self) -> None:
        """Raise if there is no use in waiting."""
        if self._error is not None:
            raise self._error
        if self._stopping:
            raise LeaseLostError(f"the lease of {self._device} was given back")
        away = self._away
        if away is not None and (
            self._answered == 0 or time.monotonic() - away.since_s > self._lost_after_s
        ):
            raise away.error

    def _waiting(self, reply: AcquireLeaseReply, *, again: bool) -> str:
        holder = reply.status.holder
        held_by = "nobody yet" if holder is None else holder.name
        waiting = f"waiting for {self._device}: held by {held_by}, position {reply.position}"
        return f"lost {self._device} to another run, {waiting}" if again else waiting

    def _keep(self) -> None:
        client = self._client
        try:
            while True:
                # Cleared before the look: whoever wakes it after that finds it awake.
                self._wake.clear()
                if self._stopping:
                    break
                self._wake.wait(self._ask(client))
            if self._away is None and self._asked:
                with contextlib.suppress(BoardfrontError):
                    client.release_lease(self._request.lease_id)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear it
            self._fail(error)
        finally:
            client.close()

    def _ask(self, client: AgentClient) -> float:
        """Ask once; return after how many seconds to ask again."""
        with self._changed:
            self._asked += 1
            number = self._asked
        try:
            reply = client.acquire_lease(self._request)
        except WrongInputError:
            raise
        except BoardfrontError as error:
            with self._changed:
                since_s = time.monotonic() if self._away is None else self._away.since_s
                self._away = _Away(since_s=since_s, error=error)
                self._changed.notify_all()
            return min(1.0, self._request.duration_s / 3)
        with self._changed:
            self._away = None
            self._answered = number
            self._reply = reply
            self._token = max(self._token, reply.fencing_token)
            self._changed.notify_all()
        period_s = self._request.duration_s / 3
        return period_s if self.held else min(period_s, _LONGEST_WAIT_S)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()


@contextlib.contextmanager
def leased_client(
    address: AgentAddress,
    request: AcquireLeaseRequest,
    *,
    device: str,
    say: Callable[[str], None],
    on_lost: Callable[[str], None] = lambda _: None,
) -> Iterator[AgentClient]:
    """Yield a client whose jobs hold the device; it is waited for before the first of them.

    Args:
        address: Of the device's agent.
        request: See `lease_request`.
        device: What people call the device.
        say: Told who is waited for.
        on_lost: Told when the connection is lost, and when it is back.
    """
    with LeaseKeeper(address, request, device=device, say=say) as keeper:
        client = AgentClient(address, on_lost=on_lost, lease=keeper)
        try:
            yield client
        finally:
            client.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user id without a name, as in many a container.
        return "somebody"
