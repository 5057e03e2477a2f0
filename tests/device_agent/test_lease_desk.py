"""The lease book on the disk: what a restart, a torn file and a full disk leave of it."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from boardfront.device_agent.lease_desk import LeaseDesk, LeaseQueueFullError
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.records import AcquireLeaseRequest, LeaseState

if TYPE_CHECKING:
    from pathlib import Path


class _Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def _ask(who: str, **others: float) -> AcquireLeaseRequest:
    return AcquireLeaseRequest(lease_id=who, holder=who, **others)  # type: ignore[arg-type]


def test_a_restart_keeps_holder_queue_and_tokens(tmp_path: Path) -> None:
    clock = _Clock()
    path = tmp_path / "lease.json"
    first = LeaseDesk(path, clock=clock)
    token = first.acquire(_ask("anna")).fencing_token
    first.acquire(_ask("ben"))
    clock.now_s += 25.0

    clock = _Clock()
    second = LeaseDesk(path, clock=clock, wall_clock=lambda: 0.0)
    clock.now_s += 29.0
    status = second.status()
    assert status.holder is not None
    assert (status.holder.name, [party.name for party in status.waiting]) == ("anna", ["ben"])
    assert second.acquire(_ask("anna")).fencing_token == token
    clock.now_s += 1.5
    # The second in line fell silent, and then so did the holder: a newer lease, a newer token.
    clock.now_s += 30.0
    assert second.acquire(_ask("cem")).fencing_token == token + 1
    assert LeaseDesk(path).book().last_token == token + 1


def test_a_token_is_on_the_disk_before_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    desk = LeaseDesk(path)
    for who in ("anna", "ben"):
        token = desk.acquire(_ask(who)).fencing_token
        assert json.loads(path.read_text())["last_token"] == token
        desk.release(who)
    # Who knows a lease's id can renew it.
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_renewing_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    desk = LeaseDesk(path)
    desk.acquire(_ask("anna"))
    path.unlink()
    desk.acquire(_ask("anna"))
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b'{"last_token": 7}', b"[]", b'{"last_token": null}', b"\xff\xfe"],
)
def test_without_a_readable_book_tokens_go_on_growing(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "lease.json"
    if content is not None:
        path.write_bytes(content)
    desk = LeaseDesk(path, wall_clock=lambda: 1.7e9)
    assert desk.status().holder is None
    assert desk.acquire(_ask("anna")).fencing_token == 1_700_000_001
    # A clock that was set back afterwards changes nothing.
    again = LeaseDesk(path, wall_clock=lambda: 0.0)
    again.release("anna")
    assert again.acquire(_ask("ben")).fencing_token == 1_700_000_002


def test_what_cannot_be_stored_is_not_given(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    (tmp_path / "lease.part").mkdir()
    desk = LeaseDesk(path)
    with pytest.raises(BoardfrontError, match=r"cannot store its leases.*make room"):
        desk.acquire(_ask("anna"))
    assert desk.status().holder is None
    (tmp_path / "lease.part").rmdir()
    token = desk.acquire(_ask("anna")).fencing_token
    (tmp_path / "lease.part").mkdir()
    # The holder goes on, others may queue, and what is given back is free.
    assert desk.acquire(_ask("anna")).fencing_token == token
    assert desk.acquire(_ask("ben")).state is LeaseState.WAITING
    desk.release("ben")
    desk.release("anna")
    assert desk.status().holder is None


@pytest.mark.parametrize("lease_id", ["", "-", "a b", "../x", "ä", "a" * 129, "a\n"])
def test_a_lease_id_that_is_none_is_refused(tmp_path: Path, lease_id: str) -> None:
    with pytest.raises(WrongInputError, match="lease id"):
        LeaseDesk(tmp_path / "lease.json").acquire(_ask(lease_id))


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 0.01, 601.0, 1e300])
def test_a_duration_out_of_bounds_is_refused(tmp_path: Path, duration_s: float) -> None:
    with pytest.raises(WrongInputError, match=r"expected 0\.1 to 600 s"):
        LeaseDesk(tmp_path / "lease.json").acquire(_ask("anna", duration_s=duration_s))


def test_names_do_no_harm_on_a_terminal(tmp_path: Path) -> None:
    desk = LeaseDesk(tmp_path / "lease.json")
    request = AcquireLeaseRequest(lease_id="a", holder="anna\x1b[2J\nben" + "x" * 900)
    holder = desk.acquire(request).status.holder
    assert holder is not None
    assert holder.name.startswith("anna?[2J?ben")
    assert len(holder.name) == 200
    nameless = desk.acquire(AcquireLeaseRequest(lease_id="b", holder="  ")).status.waiting[0]
    assert nameless.name == "somebody"


def test_the_queue_has_an_end(tmp_path: Path) -> None:
    desk = LeaseDesk(tmp_path / "lease.json")
    for number in range(65):
        desk.acquire(_ask(f"n{number}"))
    with pytest.raises(LeaseQueueFullError, match="64 wait"):
        desk.acquire(_ask("late"))
    assert desk.acquire(_ask("n64")).position == 64
    desk.release("n3")
    assert desk.acquire(_ask("late")).position == 64
