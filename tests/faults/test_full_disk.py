"""Disks without room, on the device and on the host: what to do is said, and then it goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import WITHIN_S, AgentProcess, in_phase, is_sampling, name_of
from tests.faults.host_run import run_at
from tests.faults.hosts import HostProcess
from tests.faults.site import Once, Site, bare, request
from tests.faults.small_disk import SmallDisk
from tests.host.searching import Place

from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.errors import BoardfrontError
from boardfront.protos.records import FailureKind, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

_MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    place = tmp_path / "disk"
    place.mkdir()
    with SmallDisk(place) as mounted:
        yield mounted


@pytest.fixture
def site(tmp_path: Path, disk: SmallDisk) -> Iterator[Site]:
    """A site whose agent keeps everything on the small disk."""
    environment = bare(tmp_path / "bare")
    agent = AgentProcess(tmp_path / "disk", prefix=disk.prefix, environment=environment)
    with Site(tmp_path, agent=agent, seen_as=disk.outside) as running:
        yield running


def test_no_room_for_an_artifact(disk: SmallDisk, site: Site) -> None:
    asked = [request(number, size_bytes=_MIB) for number in range(2)]
    site.measure(asked[:1])
    disk.fill(but_bytes=_MIB // 2)
    # The artifact that is not needed any more makes room.
    site.measure(asked[1:])
    disk.fill()
    third = request(2, size_bytes=3 * _MIB)
    with pytest.raises(BoardfrontError, match=r"free space on the device, under .*artifacts"):
        site.measure([third])
    disk.free()
    site.measure([third])
    site.assert_nothing_lost_or_twice([*asked, third])


def test_no_room_for_a_job(disk: SmallDisk, site: Site) -> None:
    asked = [request(0)]
    site.connect().missing([])
    disk.fill()
    with pytest.raises(BoardfrontError, match="free space"):
        site.measure(asked)
    disk.free()
    site.measure(asked)
    site.assert_nothing_lost_or_twice(asked)


def test_no_room_for_the_events_of_a_running_job(disk: SmallDisk, site: Site) -> None:
    asked = [request(number) for number in range(2)]
    site.measure(asked[:1], Once(in_phase(Phase.LOADING), disk.fill))
    assert "stay in memory: [Errno 28]" in (site.agent.state / "stderr.log").read_text()
    # What is missing of the acknowledged job does no harm to the next agent.
    site.agent.kill()
    disk.free()
    site.agent.start()
    site.measure(asked)
    # Its journal was in memory only: the store tells.
    assert [one.key.structure_hash for one in site.stored()] == [
        one.structure_hash for one in reversed(asked)
    ]


def test_killed_while_the_disk_is_full(disk: SmallDisk, site: Site) -> None:
    asked = [request(0, min_duration_s=0.6)]

    def crash() -> None:
        disk.fill()
        time.sleep(0.3)
        site.agent.kill()
        disk.free()
        site.agent.start()

    site.measure(asked, Once(is_sampling, crash))
    site.assert_nothing_lost_or_twice(asked, begun=2)


def test_no_room_to_start(tmp_path: Path, disk: SmallDisk) -> None:
    disk.fill()
    command = (*("-m", "boardfront.device_agent.cli", "serve"), *("--listen", "127.0.0.1:0"))
    done = subprocess.run(
        [*disk.prefix, sys.executable, *command, "--state", str(tmp_path / "disk" / "state")],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (told,) = done.stderr.splitlines()
    assert "No space left on device" in told
    assert "has free space; see --state" in told


def test_no_room_for_workers(tmp_path: Path, disk: SmallDisk) -> None:
    environment = {**bare(tmp_path / "bare"), "TMPDIR": str(tmp_path / "disk")}
    agent = AgentProcess(tmp_path / "agent", prefix=disk.prefix, environment=environment)
    with Site(tmp_path, agent=agent) as site:
        site.measure([request(0)])
        disk.fill_with_files()
        (lost,) = site.measure([request(1)])
        disk.free()
        assert lost.failure is not None
        assert lost.failure.kind is FailureKind.DEVICE_LOST
        assert f"check its free space in {tmp_path / 'disk'}" in lost.failure.message
        (again,) = site.measure([request(1, job_seed="later")])
        assert again.result is not None


def test_no_room_on_the_host(tmp_path: Path, disk: SmallDisk) -> None:
    count = 2
    with Site(tmp_path) as site:
        run = run_at(site, tmp_path / "disk" / "store.db", count=count)
        with HostProcess(run, prefix=disk.prefix) as host:
            assert host.read_line() == "stored 0 as 1"
            disk.fill()
            code, told = host.wait()
        assert code == 1
        assert told.count("\n") == 1
        assert "check its folder, its rights and the free space, then run again" in told
        # What was measured and could not be stored waits on the agent.
        (kept,) = run.jobs.glob("*/events.jsonl")
        disk.free()
        with HostProcess(run, prefix=disk.prefix) as host:
            assert host.wait() == (0, "")
        assert not kept.exists()
        # SQLite would look for it on this side of the mount.
        shutil.copyfile(disk.outside / "store.db", tmp_path / "copy.db")
        with MeasurementStore(tmp_path / "copy.db") as store:
            found = store.recent(device_id=site.client.describe().device_id)
        assert [one.key.structure_hash for one in reversed(found)] == [
            request(number).structure_hash for number in range(count)
        ]
        artifacts = {name_of(request(number).model) for number in range(count)}
        assert site.book.answered() == site.book.begun() == dict.fromkeys(artifacts, 1)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_no_room_for_a_run(tmp_path: Path, disk: SmallDisk) -> None:
    place = Place(tmp_path)
    runs = ("--runs", str(tmp_path / "disk" / "runs"))

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*disk.prefix, sys.executable, "-m", "boardfront.host.cli", *arguments, *runs],
            cwd=tmp_path,
            env={**os.environ, **place.settings},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    # The folder and its journal have room, the supernet's weights have none.
    disk.fill(but_bytes=32 << 10)
    full = call("search", str(place.experiment))
    assert full.returncode == 1
    (line,) = [one for one in full.stderr.splitlines() if one.startswith("boardfront:")]
    assert "No space left on device: check the folder, its rights and the free space" in line
    assert "go on with: boardfront search --resume" in line
    disk.free()
    done = call("search", "--resume", "latest")
    assert done.returncode == 0, done.stderr
