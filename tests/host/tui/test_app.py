"""The run screen answers its keys on small and large terminals, and follows a run."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest
from tests.host.tui import sample

from boardfront.host import journal_records as records
from boardfront.host.journal import Journal, lock_path
from boardfront.host.run_folder import list_runs
from boardfront.host.tui.app import WIDE, MonitorApp
from boardfront.host.tui.panels import LinesPanel, RunPanel
from boardfront.host.view.run_view import RunState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from textual.pilot import Pilot

    from boardfront.host.run_folder import RunFolder
    from boardfront.host.tui.looking import Looking

SMALL = (80, 24)
LARGE = (160, 50)
Script: TypeAlias = "Callable[[Pilot[None]], Awaitable[None]]"


def play(app: MonitorApp, size: tuple[int, int], script: Script) -> None:
    """Open the screen in a terminal of a size and press keys."""

    async def session() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(pilot)

    asyncio.run(session())


def screen(app: MonitorApp) -> str:
    """Return what a person reads."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def looking(app: MonitorApp) -> Looking:
    """Return what the panels share."""
    return app.query(RunPanel).first().looking


def shown(app: MonitorApp) -> set[str | None]:
    """Return the panels that are there."""
    return {panel.id for panel in app.query(".panel") if panel.region.area}


def test_a_small_terminal_shows_one_thing_after_the_other(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(pilot: Pilot[None]) -> None:
        assert shown(app) == {"plot", "details"}
        for key, panels in (
            ("2", {"table", "details"}),
            ("3", {"training"}),
            ("4", {"devices"}),
            ("5", {"failures", "log"}),
            ("1", {"plot", "details"}),
        ):
            await pilot.press(key)
            assert shown(app) == panels
            assert all(len(line) == SMALL[0] for line in screen(app).splitlines())

    play(app, SMALL, script)


def test_a_large_terminal_shows_everything(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(pilot: Pilot[None]) -> None:
        everything = {"plot", "table", "details", "training", "devices", "failures", "log"}
        assert shown(app) == everything
        await pilot.resize_terminal(*SMALL)
        assert shown(app) == {"plot", "details"}
        await pilot.resize_terminal(*WIDE)
        assert shown(app) == everything

    play(app, LARGE, script)


def test_progress_and_time_left(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(_pilot: Pilot[None]) -> None:
        text = screen(app)
        # 40 candidates at 2.5 s each.
        assert "search 80/120, about 1 min 40 s left" in text
        assert "3 failed" in text
        assert "1 measured again" in text
        assert "running" in text
        assert "began 2027-01-15 08:00, 8 min 30 s" in text

    play(app, LARGE, script)


def test_the_front_and_the_limit_are_seen_without_colour(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(pilot: Pilot[None]) -> None:
        body = screen(app).split("limit", 1)[1]
        front = looking(app).view.front
        # One of them is selected and has its own mark; two may share a cell.
        assert 1 <= body.count("◆") <= len(front)
        assert body.count("◉") == 1
        assert body.count("┆") > 8
        assert {"·", "∘", "○"} <= set(body)
        await pilot.press("2")
        marks = [line[1] for line in screen(app).splitlines()[4:-8]]
        shown = looking(app).rows[: len(marks)]
        assert marks == ["◉", *("◆" if one.is_on_front else " " for one in shown[1:])]

    play(app, SMALL, script)


def test_t_and_o_change_what_is_drawn(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(pilot: Pilot[None]) -> None:
        assert looking(app).target == "rock"
        assert "┆ limit" in screen(app)
        await pilot.press("t")
        assert looking(app).target == "pi"
        assert "┆ limit" not in screen(app)
        await pilot.press("o")
        assert "time on rock, ms" in screen(app)
        await pilot.press("o", "t")
        assert (looking(app).target, looking(app).axes.upwards) == ("rock", "")

    play(app, SMALL, script)


def test_one_target_leaves_nothing_to_turn(halfway: RunFolder) -> None:
    view = sample.frozen(halfway)
    app = sample.app_of(halfway, replace(view, targets=view.targets[:1]))

    async def script(pilot: Pilot[None]) -> None:
        before = looking(app).axes
        await pilot.press("t")
        assert "the run has one target" in screen(app)
        await pilot.press("o")
        assert "no other objective" in screen(app)
        assert looking(app).axes == before

    play(app, SMALL, script)


def test_s_sorts(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(pilot: Pilot[None]) -> None:
        front = len(looking(app).view.front)
        assert all(one.is_on_front for one in looking(app).rows[:front])
        await pilot.press("2", "s")
        times = [r.latencies["rock"].median_s for r in looking(app).rows if r.latencies]
        assert times == sorted(times)
        assert looking(app).rows[-1].failure is not None
        await pilot.press("s")
        accuracies = [r.accuracy or 0.0 for r in looking(app).rows]
        assert accuracies == sorted(accuracies, reverse=True)
        await pilot.press("s")
        assert [r.index for r in looking(app).rows] == list(range(79, -1, -1))
        assert "newest first" in screen(app)
        await pilot.press("s")
        assert looking(app).rows[0].is_on_front

    play(app, SMALL, script)


def test_the_selection_stays_on_its_candidate(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("2", "down", "down")
        chosen = looking(app).selected
        assert chosen is looking(app).rows[2]
        await pilot.press("s", "s")
        assert looking(app).selected is chosen
        assert chosen.encoding in screen(app)
        await pilot.press("end")
        assert looking(app).place == 79
        await pilot.press("down", "pageup")
        assert looking(app).place == 69
        await pilot.press("home", "up")
        assert looking(app).place == 0

    play(app, SMALL, script)


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_enter_opens_a_candidate_with_blocks_and_times(
    ended: RunFolder, size: tuple[int, int]
) -> None:
    app = sample.app_of(ended)

    async def script(pilot: Pilot[None]) -> None:
        chosen = looking(app).selected
        assert chosen is not None
        await pilot.press("enter")
        text = screen(app)
        assert chosen.encoding in text
        assert "rock: searched" in text
        assert "search off by -1.2%" in text
        assert "rock: processes" in text
        for kind in ("stem", *chosen.encoding.replace("-", "")):
            assert f" {kind} " in text
        assert "stride 2" in text
        await pilot.press("end", "escape")
        assert len(app.screen_stack) == 1

    play(app, size, script)


def test_a_space_that_is_not_known_here_is_drawn_by_its_parts(halfway: RunFolder) -> None:
    view = sample.frozen(halfway)
    other = view.experiment_text.replace('name = "spos"', 'name = "somebody-elses"')
    app = sample.app_of(halfway, replace(view, experiment_text=other))

    async def script(pilot: Pilot[None]) -> None:
        chosen = looking(app).selected
        assert chosen is not None
        await pilot.press("enter")
        for part in chosen.encoding.split("-"):
            assert f"{part}  ███" in screen(app)

    play(app, SMALL, script)


def test_without_control_nothing_is_asked_for(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(pilot: Pilot[None]) -> None:
        for key in "prcC":
            await pilot.press(key)
            assert "read-only: start boardfront monitor with --control" in screen(app)
            assert len(app.screen_stack) == 1
        assert list(halfway.control.iterdir()) == []

    play(app, SMALL, script)


def test_with_control_requests_are_laid_into_the_folder(tmp_path: Path) -> None:
    made = sample.make(tmp_path, candidates=5)
    app = sample.app_of(made, control=True)

    def asked() -> set[str]:
        return {path.name for path in made.control.iterdir()}

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("p")
        assert asked() == {"pause"}
        assert "asked the run: pause" in screen(app)
        await pilot.press("r")
        assert asked() == {"pause", "resume"}
        await pilot.press("c")
        assert "Cancel job 0123abcd?" in screen(app)
        await pilot.press("n")
        assert asked() == {"pause", "resume"}
        await pilot.press("c", "y")
        assert asked() == {"pause", "resume", "cancel-job-0123abcd"}
        await pilot.press("C", "escape", "C", "y")
        assert "cancel" in asked()

    play(app, SMALL, script)


@pytest.mark.parametrize("state", [RunState.INTERRUPTED, RunState.COMPLETED])
def test_a_run_that_is_over_is_not_asked(tmp_path: Path, state: RunState) -> None:
    made = sample.make(tmp_path, candidates=5)
    app = sample.app_of(made, sample.frozen(made, state=state), control=True)

    async def script(pilot: Pilot[None]) -> None:
        for key in "prcC":
            app._say("")
            await pilot.press(key)
            assert f"not asked: the run does not go on, it is {state.value}" in screen(app)
            assert len(app.screen_stack) == 1
        assert list(made.control.iterdir()) == []

    play(app, SMALL, script)


def test_it_says_when_the_run_obeys(tmp_path: Path) -> None:
    made = sample.make(tmp_path, candidates=5)
    app = sample.app_of(made, control=True)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("p")
        assert "asked the run: pause; obeyed after this candidate" in screen(app)
        await pilot.press("c", "y")
        assert "cancel-job-0123abcd; obeyed within a second" in screen(app)

    play(app, SMALL, script)


@pytest.mark.parametrize("name", ["pi5 [threads=4]", "rock [/x]"])
def test_a_bracket_in_a_target_s_name_is_no_markup(halfway: RunFolder, name: str) -> None:
    view = sample.frozen(halfway)
    named = replace(view, targets=(replace(view.targets[0], name=name),))
    app = sample.app_of(halfway, named)

    async def script(_pilot: Pilot[None]) -> None:
        assert f"against time on {name}" in screen(app)

    play(app, LARGE, script)


def test_devices_of_the_machine_that_runs_it_are_not_asked_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOARDFRONT_FLEET", str(tmp_path / "fleet.toml"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = sample.make(tmp_path, candidates=3)
    made.experiment.write_text(
        sample.TEXT.replace('device = "local"', 'device = ["localhost:50051", "[::1]:50052"]', 1)
    )
    lock_path(made.journal).write_text("4711 some-other-host")
    app = MonitorApp(made)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("4")
        text = " ".join(screen(app).split())
        assert "not asked from here, of the machine that runs it:" in text
        for name in ("localhost:50051", "[::1]:50052", "local"):
            assert name in text
        assert "no boards to watch" in text

    play(app, SMALL, script)


def test_help_names_every_key(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        text = screen(app)
        for what in ("select a candidate", "sort", "target", "objective", "pause", "cancel"):
            assert what in text
        await pilot.press("q")
        assert len(app.screen_stack) == 1
        assert app.is_running

    play(app, SMALL, script)


def test_failures_and_log(ended: RunFolder) -> None:
    app = sample.app_of(ended)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("5")
        text = screen(app)
        assert "needs 212 MiB of memory" in text
        assert "out-of-memory" in text or "out_of_memory" in text
        assert "completed" in text
        await pilot.press("home")
        await pilot.pause()
        assert app.query_one("#log", LinesPanel).scroll_offset.y == 0
        assert "08:00:00 the run began" in screen(app)

    play(app, SMALL, script)


def test_training_is_shown_while_it_goes_on(tmp_path: Path) -> None:
    made = sample.epochs_only(tmp_path)
    app = sample.app_of(made)

    async def script(_pilot: Pilot[None]) -> None:
        assert shown(app) == {"training"}
        text = screen(app)
        assert "training 6/12, about 42 s left" in text
        assert "• loss" in text
        assert "accuracy of a random path" in text

    play(app, SMALL, script)


def test_devices_are_listed(halfway: RunFolder) -> None:
    app = sample.app_of(halfway)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("4")
        text = screen(app)
        assert "rock5b" in text
        assert "busy" in text
        assert "away" in text
        await pilot.press("enter")
        assert len(app.screen_stack) == 2
        await pilot.press("escape", "1", "down")
        assert looking(app).place == 1

    play(app, SMALL, script)


def test_a_paused_run_says_so(halfway: RunFolder) -> None:
    app = sample.app_of(halfway, sample.frozen(halfway, state=RunState.PAUSED))

    async def script(_pilot: Pilot[None]) -> None:
        assert "sample  paused" in screen(app)

    play(app, SMALL, script)


def test_it_follows_a_run_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOARDFRONT_FLEET", str(tmp_path / "fleet.toml"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = sample.make(tmp_path, candidates=3)
    app = MonitorApp(made)

    async def script(pilot: Pilot[None]) -> None:
        assert len(looking(app).rows) == 3
        assert "interrupted" in screen(app)
        before = sorted(made.path.rglob("*"))
        with Journal(made.journal) as journal:
            rest = [r for r in sample.history() if isinstance(r, records.Evaluation)][3:9]
            for record in rest:
                journal.append(record)
            await app._poll()
            await pilot.pause()
            assert len(looking(app).rows) == 9
            assert "search 9/120" in screen(app)
            assert "running" in screen(app)
        made.journal.write_bytes(made.journal.read_bytes() + b"what?\n")
        await app._poll()
        await pilot.pause()
        assert "expected a journal record, got no JSON" in screen(app)
        assert sorted(made.path.rglob("*")) == before

    play(app, SMALL, script)


def test_a_newer_run_follows_one_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOARDFRONT_FLEET", str(tmp_path / "fleet.toml"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    old = sample.make(tmp_path, candidates=3)
    app = MonitorApp(old, newest=lambda: next(list_runs(old.path.parent)))

    async def script(pilot: Pilot[None]) -> None:
        assert len(looking(app).rows) == 3
        with Journal(old.journal):
            newer = sample.make(tmp_path, candidates=7)
            await app._poll()
            assert looking(app).view.name == old.path.name
        await app._poll()
        await pilot.pause()
        assert looking(app).view.name == newer.path.name
        assert len(looking(app).rows) == 7
        assert newer.path.name in screen(app)

    play(app, SMALL, script)


def test_leaving(halfway: RunFolder) -> None:
    async def left(app: MonitorApp, key: str) -> int | None:
        async with app.run_test(size=SMALL) as pilot:
            await pilot.press(key)
        return app.return_code

    assert asyncio.run(left(sample.app_of(halfway), "q")) == 0
    assert asyncio.run(left(sample.app_of(halfway), "ctrl+c")) == 0
    live = MonitorApp(halfway, is_live=True)
    assert asyncio.run(left(live, "ctrl+c")) == 130
