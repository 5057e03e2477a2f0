"""`boardfront store`: what a person sees of it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.latency_models import samples, store_samples

from boardfront.host import paths
from boardfront.latency_models.store import MeasurementStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.host.searching import Place

    Command = Callable[..., tuple[int, str, str]]

_NO_SERVER = "postgresql://nas:se%40cret@127.0.0.1:1/boardfront"


@pytest.fixture
def filled(place: Place) -> Place:
    """The place of a person who measured."""
    with MeasurementStore(place.store, clock=lambda: 5.0) as store:
        store_samples.fill(store)
    return place


def test_info_tells_what_is_there(filled: Place, boardfront: Command) -> None:
    code, out, err = boardfront("store", "info")
    assert (code, err) == (0, "")
    lines = dict(line.split("\t") for line in out.split("\n\n")[0].splitlines())
    assert lines["store"] == f"{filled.store} (sqlite, revision 0003)"
    assert lines["measurements"] == "5"
    assert lines["results"] == "4 ok"
    assert lines["failures"] == "1 timeout"
    assert lines["in quarantine"] == "2"
    assert lines["backends"] == "5 onnxruntime"
    code, out, err = boardfront("store", "info", "--json")
    said = json.loads(out)
    assert (said["measurements"], said["database"], said["revision"]) == (5, "sqlite", "0003")
    assert said["devices"][0]["device_id"] == "device-1"


def test_out_and_in_again(filled: Place, boardfront: Command) -> None:
    assert boardfront("store", "export", "all.json.gz")[0] == 0
    code, out, err = boardfront("store", "export", "all.csv", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "file": "all.csv",
        "measurements": 5,
        "size_bytes": (filled.folder / "all.csv").stat().st_size,
    }
    other = ("--store", "other.db")
    code, out, err = boardfront("store", "import", "all.json.gz", "all.csv", *other)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "all.json.gz: 5 added, 0 known, 3 quarantines added",
        "all.csv: 0 added, 5 known",
    ]
    code, out, err = boardfront("store", "merge", str(filled.store), *other, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "store": "other.db",
        "sources": [
            {
                "source": str(filled.store),
                "added": 0,
                "known": 5,
                "quarantines": 0,
                "conflicts": [],
            }
        ],
    }


def test_what_conflicts_is_one_line_and_exit_1(filled: Place, boardfront: Command) -> None:
    with MeasurementStore(filled.folder / "other.db") as other:
        for number in range(7):
            changed = samples.result(median_s=0.003)
            other.append(samples.measurement(changed, job_id=f"job-{number}"))
    code, out, err = boardfront("store", "merge", "other.db")
    assert code == 1
    assert out == "other.db: 3 added, 0 known, 4 refused\n"
    assert len(err.splitlines()) == 4
    assert "of job job-1, subject s0, got something else: refused" in err
    code, out, err = boardfront("store", "merge", "other.db", "--json")
    assert code == 1
    (source,) = json.loads(out)["sources"]
    assert source["known"] == 3
    assert source["conflicts"][0] == {"job_id": "job-1", "subject_id": "s0"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("info", "--store", "none.db"),
            "none.db: expected a measurement store, got no such file",
        ),
        (("export", "a.csv", "--store", "none.db"), "got no such file"),
        (("merge", "none.db"), "none.db: expected a measurement store, got no such file"),
        (("merge", "."), ".: expected a measurement store, got a folder"),
        (("merge", "measurements.db"), "expected another store than the one that it goes into"),
        (("export", "a.txt"), "a.txt: expected a name that ends in"),
        (("export", "tiny.toml.csv"), "expected a new file, got one that is there"),
        (("import", "none.csv"), "none.csv: expected a file of boardfront store export, got"),
        (("info", "--store", "mysql://u:se%40cret@h/d"), "expected a path or a database URL"),
    ],
)
def test_wrong_input_is_one_line_and_changes_nothing(
    filled: Place, boardfront: Command, arguments: tuple[str, ...], says: str
) -> None:
    (filled.folder / "tiny.toml.csv").write_text("mine")
    before = sorted(path.name for path in filled.folder.iterdir())
    code, out, err = boardfront("store", *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
    assert "cret" not in err
    after = sorted(
        p.name for p in filled.folder.iterdir() if not p.name.endswith(("-wal", "-shm"))
    )
    assert after == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("store", "info"),
        ("store", "export", "a.csv"),
        ("store", "merge", "measurements.db"),
        ("device", "verify", "local"),
    ],
)
@pytest.mark.parametrize("by", ["option", "environment"])
def test_every_store_may_be_a_url_and_no_password_is_printed(
    filled: Place,
    boardfront: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    by: str,
) -> None:
    if by == "environment":
        monkeypatch.setenv("BOARDFRONT_STORE", _NO_SERVER)
    else:
        arguments = (*arguments, "--store", _NO_SERVER)
    code, out, err = boardfront(*arguments)
    assert code == 1
    assert "cannot use the store postgresql://nas:***@127.0.0.1:1/boardfront" in err
    assert "check that the server runs" in err
    assert "cret" not in out + err
    assert not [path for path in filled.folder.iterdir() if path.name.startswith("postgresql")]


def test_a_url_in_the_environment_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARDFRONT_STORE", _NO_SERVER)
    assert paths.default_store() == _NO_SERVER
    monkeypatch.delenv("BOARDFRONT_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert paths.default_store() == "data/boardfront/measurements.db"


def test_ctrl_c_leaves_no_half_file(place: Place) -> None:
    with MeasurementStore(place.store) as store:
        # Packing 300,000 numbers takes longer than the signal.
        long = dataclasses.replace(samples.result(), warm_up_s=(1 / 3, 0.1 + 0.2) * 5_000)
        for number in range(30):
            store.append(samples.measurement(long, job_id=f"job-{number}"))
    out = place.folder / "out"
    out.mkdir()
    running = subprocess.Popen(
        [sys.executable, "-m", "boardfront.host.cli", "store", "export", "out/all.json.gz"],
        cwd=place.folder,
        env={**os.environ, **place.settings},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline_s = time.monotonic() + 60
    while not list(out.iterdir()):
        assert running.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert said == "boardfront: interrupted; no file was written\n"
    assert list(out.iterdir()) == []


def test_what_takes_long_says_how_far_it_is(
    filled: Place, boardfront: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boardfront.host.commands import store as command

    monkeypatch.setattr(command, "_QUIET_FOR_S", 0.0)
    code, _, err = boardfront("store", "export", "all.csv")
    assert code == 0
    assert err.startswith("exporting: 20 % done\n")
    assert "percent 100/100  exporting" in err
    assert filled.store.exists()
