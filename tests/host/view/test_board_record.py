"""What a board says, put together: states, rates, what is old, and how it is written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from boardfront.host.view import fleet_text
from boardfront.host.view.board_record import SILENT_S, BoardRecord
from boardfront.host.view.fleet_lines import Changes
from boardfront.host.view.fleet_view import BoardState, BoardView, FleetView, JobView
from boardfront.protos.records import (
    JobCounts,
    LeaseParty,
    LeaseStatus,
    Phase,
    Purpose,
    RunningJob,
    TelemetrySample,
)

NOW_UNIX_S = 1_800_000_000.0

HOLDER = LeaseParty(name="anna@ws, run spos-3", priority=0, since_s=60.0, expires_in_s=20.0)
IDLE = TelemetrySample(time_unix_s=NOW_UNIX_S, counts=JobCounts(jobs=0), lease=LeaseStatus())
TUNING = replace(
    IDLE,
    running_job_id="0123456789",
    queued_jobs=2,
    running=RunningJob(
        job_id="0123456789",
        purpose=Purpose.CANDIDATE,
        since_s=30.0,
        phase=Phase.TUNING,
        phase_since_s=20.0,
        phase_budget_s=600.0,
    ),
    lease=LeaseStatus(holder=HOLDER, waiting=(replace(HOLDER, name="bob@ws, measure"),)),
)


def _view(record: BoardRecord, now_s: float) -> BoardView:
    return record.view(now_s, NOW_UNIX_S + now_s)


def test_a_board_goes_through_its_states() -> None:
    record = BoardRecord("rock", "10.0.0.1:50051", "soc=rk3588")
    assert _view(record, 0.0).state is BoardState.ASKING

    record.heard(IDLE, 1.0)
    free = _view(record, 1.0)
    assert (free.state, free.since_unix_s) == (BoardState.FREE, NOW_UNIX_S + 1.0)
    assert (free.address, free.known, free.holder) == ("10.0.0.1:50051", "soc=rk3588", "")

    record.heard(TUNING, 3.0)
    busy = _view(record, 4.0)
    assert (busy.state, busy.since_unix_s) == (BoardState.BUSY, NOW_UNIX_S + 4.0)
    assert (busy.holder, busy.holder_since_s, busy.expires_in_s) == (HOLDER.name, 61.0, 19.0)
    assert busy.waiting == ("bob@ws, measure",)
    assert busy.queued == 2
    # A second went by since the board said so.
    assert busy.job == JobView(
        job_id="0123456789",
        owner=HOLDER.name,
        purpose="candidate",
        phase="tuning",
        since_s=31.0,
        phase_since_s=21.0,
        budget_s=600.0,
    )
    assert busy.job.left_s == 579.0
    assert busy.job.words == "tuning 21 s of 10 min 00 s"

    record.heard(replace(TUNING, running=None, running_job_id=None), 5.0)
    assert _view(record, 5.0).state is BoardState.HELD

    record.left_out("it is slow")
    out = _view(record, 5.0)
    assert (out.state, out.why) == (BoardState.LEFT_OUT, "it is slow")
    record.left_out("")

    silent = _view(record, 5.0 + SILENT_S + 1.0)
    assert (silent.state, silent.why) == (BoardState.AWAY, "no word for 9 s")
    assert silent.temperature_c is None
    # It stays away from that moment on.
    assert _view(record, 60.0).since_unix_s == silent.since_unix_s

    record.lost(BoardState.REFUSED, "no certificate")
    refused = _view(record, 61.0)
    assert (refused.state, refused.why) == (BoardState.REFUSED, "no certificate")
    record.heard(IDLE, 62.0)
    assert _view(record, 62.0).state is BoardState.FREE


def test_the_rate_is_that_of_the_last_two_minutes() -> None:
    record = BoardRecord("rock")
    for now_s in range(0, 400, 2):
        # Ten jobs a minute, then thirty.
        jobs = now_s // 6 if now_s < 200 else 33 + (now_s - 200) // 2
        record.heard(replace(IDLE, counts=JobCounts(jobs=jobs)), float(now_s))
        rate = _view(record, float(now_s)).jobs_per_minute
        if now_s < 10:
            assert rate is None
        elif 120 <= now_s < 200:
            assert rate == pytest.approx(10.0, abs=0.6)
    assert rate == pytest.approx(30.0)
    # An agent that was started anew counts from nothing: no rate is negative.
    record.heard(IDLE, 400.0)
    assert _view(record, 400.0).jobs_per_minute is None
    assert _view(record, 400.0).jobs == 0


def test_throttling_is_told_for_a_minute_and_unknown_is_not_no() -> None:
    record = BoardRecord("rock")
    record.heard(IDLE, 0.0)
    assert _view(record, 0.0).is_throttled is None
    record.heard(replace(IDLE, throttle_events=3, cooling_state=0), 2.0)
    assert _view(record, 2.0).throttle_events == 3
    assert _view(record, 2.0).is_throttled is True
    for now_s in range(4, 70, 2):
        record.heard(replace(IDLE, throttle_events=0, cooling_state=0), float(now_s))
    assert _view(record, 68.0).is_throttled is False
    record.heard(replace(IDLE, throttle_events=0, cooling_state=2), 70.0)
    assert _view(record, 70.0).is_throttled is True


def test_an_older_agent_tells_less() -> None:
    old = TelemetrySample(time_unix_s=0.0, running_job_id="j", queued_jobs=1)
    record = BoardRecord("rock")
    wanted = [record.wants_lease]
    record.heard(old, 0.0)
    assert [*wanted, record.wants_lease] == [False, True]
    record.heard_lease(LeaseStatus(holder=HOLDER))
    record.heard(old, 4.0)
    found = _view(record, 5.0)
    assert (found.state, found.holder) == (BoardState.BUSY, HOLDER.name)
    assert found.job is not None
    # Since it was first seen.
    assert (found.job.since_s, found.job.phase, found.job.words) == (5.0, "", "running 5 s")
    assert found.verdicts is None
    row = fleet_text.fitting(76, [found]).row(found)
    assert row.split()[-2:] == ["-", "-"]


BUSY = BoardView(
    name="rock5b",
    state=BoardState.BUSY,
    holder="anna@workstation, run spos-3",
    queued=2,
    temperature_c=61.4,
    frequency_hz=2.256e9,
    throttle_events=0,
    cpu_fraction=0.27,
    job=JobView(job_id="0123", phase="sampling", phase_since_s=12.0, windows=8),
    jobs_per_minute=11.2,
    verdicts={"ok": 120, "unstable": 2},
    failures={"timeout": 1},
)
AWAY = BoardView(
    name="pi", state=BoardState.AWAY, why="no agent answers at 192.168.1.21:50051: start one"
)


@pytest.mark.parametrize("width", [40, 60, 76, 100, 160])
def test_the_table_fits_any_width(width: int) -> None:
    layout = fleet_text.fitting(width, [BUSY, AWAY])
    lines = [layout.titles, layout.row(BUSY), layout.row(AWAY)]
    assert all(len(line) <= width for line in lines)
    assert lines[0].split()[:2] == ["board", "state"]
    assert lines[1].split()[:2] == ["rock5b", "busy"]
    # A board that is away says why, as far as there is room.
    assert lines[2].startswith(f"{'pi':<8} {'away':<8} no agent answers")


def test_all_that_counts_fits_into_80_columns() -> None:
    row = fleet_text.fitting(76, [BUSY]).row(BUSY)
    assert row.split() == [
        *("rock5b", "busy", "anna@work…", "sampling", "12", "s,", "…"),
        *("2", "61", "2256", "no", "11.2", "120/3"),
    ]


def test_going_from_job_to_job_is_no_news() -> None:
    changes = Changes()

    def news(*boards: BoardView) -> list[str]:
        return [b.name for b in changes.of(FleetView(time_unix_s=0.0, boards=boards))]

    assert news(BoardView(name="rock5b"), AWAY) == ["pi"]
    assert news(BUSY, AWAY) == ["rock5b"]
    assert news(replace(BUSY, job=None, state=BoardState.HELD, queued=0), AWAY) == []
    assert news(replace(BUSY, temperature_c=90.0), replace(AWAY, why="still")) == []
    assert news(replace(BUSY, throttle_events=1), AWAY) == ["rock5b"]
    assert news(BUSY, replace(AWAY, state=BoardState.FREE, why="")) == ["rock5b", "pi"]


def test_details_name_everything_that_is_known() -> None:
    text = "\n".join(fleet_text.details(replace(BUSY, holder_since_s=61.0, expires_in_s=20.0)))
    for part in (
        "anna@workstation, run spos-3",
        "for 1 min 01 s; ends in 20 s unless renewed",
        "sampling 12 s, 8 windows",
        "120 ok, 2 unstable",
        "1 timeout",
        "0 events in the last minute, cooling state -",
        "27% of its cores, - W, - GiB",
    ):
        assert part in text
    assert list(fleet_text.details(AWAY)) == ["state        away", f"why          {AWAY.why}"]
