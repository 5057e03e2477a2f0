"""Wrong input and trouble: one line that names what is asked for, and the right exit code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import serving
from tests.device_agent.onnx_files import conv_net, dynamic_net
from tests.host.searching import EXPERIMENT, Place, errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).resolve().parents[2]

_NOTHING_INSTALLED = """
from importlib import metadata

_version = metadata.version

def version(name):
    if name.startswith("onnxruntime"):
        raise metadata.PackageNotFoundError(name)
    return _version(name)

metadata.version = version
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running agent."""
    with serving(tmp_path_factory.mktemp("agent")) as (_, wire):
        yield wire.address


@pytest.mark.parametrize(
    "command", [("search",), ("table", "build", "-o", "t.json", "--target")], ids=" ".join
)
def test_the_fleet_file_that_is_named_is_asked_for_a_board(
    boardfront: Command, place: Place, device: str, command: tuple[str, ...]
) -> None:
    other = place.folder / "the other.toml"
    other.write_text(f'[device.bench]\naddress = "{device}"\n')
    # What is wrong besides is told once the board is known.
    text = EXPERIMENT.replace('device = "local"', 'device = "bench"')
    place.experiment.write_text(text.replace("stem_stride", "stem_strid"))
    assert "'bench'" in _refused(boardfront(*command, "tiny.toml"))
    assert "'stem_strid'" in _refused(boardfront(*command, "tiny.toml", "--fleet", str(other)))


def test_going_on_asks_the_same_store_and_fleet(place: Place) -> None:
    fleet, store = place.folder / "f.toml", place.folder / "other.db"
    files = ("--store", str(store), "--fleet", str(fleet))
    # Without reach: the run has begun, and its target cannot be had.
    text = EXPERIMENT.replace('device = "local"', 'device = "127.0.0.1:1"')
    place.experiment.write_text(text)
    done = place.call("search", str(place.experiment), *files)
    assert done.returncode == 1
    folder = place.run_folder.path
    assert f"boardfront search --resume runs/{folder.name} {' '.join(files)}" in done.stderr


@pytest.fixture
def net(place: Place) -> str:
    (place.folder / "net.onnx").write_bytes(conv_net())
    return "net.onnx"


@pytest.fixture
def dynamic(place: Place) -> str:
    (place.folder / "dynamic.onnx").write_bytes(dynamic_net())
    return "dynamic.onnx"


def _refused(answer: tuple[int, str, str], *, code: int = 2) -> str:
    """Return the one line on stderr."""
    got, out, told = answer
    assert (got, out) == (code, ""), told
    (line,) = told.splitlines()
    assert line.startswith("boardfront: ")
    return line


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "epochs = 3",
            "epohcs = 3",
            ("tiny.toml:17: unknown key 'epohcs' in [supernet]", "learning_rate", "'epochs'?"),
        ),
        ("population = 5", "population = 1", ("tiny.toml:25: ", "'population'", "equal to 2")),
        ("population = 5", 'population = "5"', ("tiny.toml:25: ", "valid integer", "'5'")),
        ("evaluations = 10", "evaluations = 3", ("tiny.toml:26: ", "population of 5", "got 3")),
        ('"spos"', '"sops"', ("tiny.toml:4: ", "'sops'", "spos")),
        ("stem_stride = 1", "stem_strid = 1", ("tiny.toml:9: ", "stem_strid", "stem_stride")),
        ('"digits"', '"digit"', ("tiny.toml:14: ", "'digit'", "'digits'?", "fashion-mnist")),
        ('target = "here"', 'target = "her"', ("tiny.toml:41: ", "'her'", "'here'?")),
        ('device = "local"', 'device = "there"', ("tiny.toml:30: ", "HOST:PORT", "'there'")),
        ("seed = 3", "seed = ", ("tiny.toml:1: ", "valid TOML")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_experiment_files(
    boardfront: Command, place: Place, old: str, new: str, expected: tuple[str, ...]
) -> None:
    assert old in EXPERIMENT
    place.experiment.write_text(EXPERIMENT.replace(old, new))
    line = _refused(boardfront("search", "tiny.toml"))
    for part in expected:
        assert part in line, line
    assert not place.runs.exists()


def test_no_experiment_file(boardfront: Command) -> None:
    assert "gone.toml: expected an experiment file" in _refused(boardfront("search", "gone.toml"))
    assert "expected boardfront search EXPERIMENT.toml, or --resume RUN" in _refused(
        boardfront("search")
    )


def test_no_such_run(boardfront: Command) -> None:
    line = _refused(boardfront("search", "--resume", "gone"))
    assert "no run 'gone': expected a run's folder or one of runs: none" in line
    assert "no runs in runs" in _refused(boardfront("search", "--resume", "latest"))


def test_a_data_set_that_does_not_fit_the_space(place: Place) -> None:
    place.experiment.write_text(EXPERIMENT.replace("in_channels = 1", "in_channels = 3"))
    done = place.call("search", "tiny.toml")
    assert done.returncode == 2
    (line,) = errors(done.stderr)
    assert "data set digits has 1" in line
    assert "set in_channels = 1" in line


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("35-3", ("position 4", "expected 2 blocks in stage 2, got 1")),
        ("35-39", ("position 4", "expected one of 3, 5, 7, x, got '9'")),
        ("35", ("position 2", "expected 2 stages separated by '-', got 1")),
        ("35-35-35", ("position 5", "expected 2 stages separated by '-', got 3")),
        ("", ("position 0", "")),
    ],
)
def test_invalid_encodings(boardfront: Command, encoding: str, expected: tuple[str, str]) -> None:
    answer = boardfront("space", "show", "spos", encoding, "--set", "stages=[[48, 2], [96, 2]]")
    line = _refused(answer)
    for part in expected:
        assert part in line, line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("space", "show", "sops", "35"), "unknown space 'sops': known are etnas, spos"),
        (("space", "show", "spos", "35", "--set", "stages"), "--set 'stages': expected KEY=VALUE"),
        (("space", "show", "spos", "35", "--set", "stage=1"), "stage"),
        (("measur",), "measur"),
        (("measure", "net.onnx", "--bach", "1"), "--bach"),
        (("measure", "net.onnx", "--batch", "0"), "--batch"),
        (("measure", "net.onnx", "--batch", "many"), "--batch"),
        (("measure",), "no network was named: expected an ONNX file"),
        (("measure", "gone.onnx"), "cannot read gone.onnx: No such file or directory"),
        (("measure", "."), "cannot read .: Is a directory"),
        (("measure", "net.onnx", "--shape", "1x3"), "--shape '1x3': expected NAME=1x3x224x224"),
        (("measure", "net.onnx", "--shape", "x=1x0"), "--shape 'x=1x0': expected NAME="),
        (("measure", "net.onnx", "--option", "threads"), "expected KEY=VALUE, e.g. threads=4"),
        (("measure", "net.onnx", "--device", "there"), "expected 'local' or HOST:PORT"),
        (("measure", "net.onnx", "--device", "there:99999"), "expected 'local' or HOST:PORT"),
        (("measure", "net.onnx", "--deadline", "1"), "is shorter than --duration 2"),
        (("measure", "net.onnx", "--shape", "z=1x3x16x16"), "no such input: expected one of"),
        (
            ("measure", "net.onnx", "--shape", "x=1x3x8x8"),
            "does not fit: net.onnx has x=1x3x16x16",
        ),
        (("measure", "net.onnx", "--batch", "4"), "--batch 4 does not fit"),
        (("measure", "dynamic.onnx"), "give them by --shape x=Nx3xNxN"),
        (("devices", "--device", "nowhere"), "expected 'local' or HOST:PORT"),
    ],
)
@pytest.mark.usefixtures("net", "dynamic")
def test_wrong_arguments(boardfront: Command, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in _refused(boardfront(*arguments))


@pytest.mark.parametrize(
    "content",
    [b"", bytes(range(256)) * 8, b"\x89PNG\r\n", b"{}"],
    ids=["empty", "bytes", "png", "json"],
)
def test_no_onnx_model(boardfront: Command, place: Place, content: bytes) -> None:
    (place.folder / "fake.onnx").write_bytes(content)
    assert "fake.onnx is not an ONNX model" in _refused(boardfront("measure", "fake.onnx"))


@pytest.mark.slow
def test_an_unreachable_device(boardfront: Command, net: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    line = _refused(boardfront("measure", net, "--device", address), code=1)
    assert address in line


def test_unknown_backends_and_options(boardfront: Command, net: str, device: str) -> None:
    line = _refused(boardfront("measure", net, "--device", device, "--backend", "tvn"))
    assert "'tvn'" in line
    assert "fake" in line
    assert "onnxruntime" in line
    line = _refused(boardfront("measure", net, "--device", device, "--option", "thread=1"))
    assert "'thread'" in line
    assert "threads" in line
    line = _refused(boardfront("measure", net, "--device", device, "--option", "threads=0"))
    assert "threads" in line


def test_a_backend_that_is_not_installed(
    boardfront: Command, net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The agent asks in a process of its own what is installed.
    (tmp_path / "sitecustomize.py").write_text(_NOTHING_INSTALLED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(tmp_path / "bare") as (_, wire):
        line = _refused(boardfront("measure", net, "--device", wire.address))
    assert "not installed: pip install 'boardfront[onnxruntime]'" in line


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('backend = "fake"', 'backend = "tvn"', "backend 'tvn' is not on device"),
        (
            "min_duration_s = 0.05\n\n[[obj",
            "options = { thread = 1 }\n\n[[obj",
            "backend fake has no option 'thread': expected one of",
        ),
    ],
    ids=["backend", "option"],
)
def test_wrong_targets(
    boardfront: Command, place: Place, device: str, old: str, new: str, expected: str
) -> None:
    assert old in EXPERIMENT
    changed = EXPERIMENT.replace(old, new).replace('"local"', f'"{device}"')
    place.experiment.write_text(changed)
    code, _, told = boardfront("search", "tiny.toml")
    assert code == 2
    (line,) = errors(told)
    assert "target 'here'" in line
    assert expected in line


def test_a_failed_measurement(boardfront: Command, net: str, device: str) -> None:
    answer = boardfront(
        *("measure", net, "--device", device, "--backend", "fake"),
        *("--option", "fault=out-of-memory"),
    )
    line = _refused(answer, code=1)
    assert "net.onnx was not measured: out_of_memory: programmed fault" in line


def test_debug_adds_the_traceback(boardfront: Command) -> None:
    code, _, told = boardfront("measure", "gone.onnx", "--debug")
    assert code == 2
    assert "Traceback (most recent call last)" in told
    assert told.splitlines()[-1].startswith("boardfront: cannot read gone.onnx")


def test_without_the_host_part() -> None:
    code = (
        "import sys; sys.modules['typer'] = None\n"
        "from boardfront.host.cli import main; sys.exit(main(['devices']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "boardfront: the host part is not installed: run pip install 'boardfront[host]'\n"
    )


def test_the_folders_are_no_packages() -> None:
    for name in ("search", "host", "protos"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"],
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert f"import boardfront.{name}" in done.stderr.splitlines()[-1]
