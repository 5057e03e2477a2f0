"""The commands that end at once."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent.harness import serving
from tests.device_agent.onnx_files import conv_net, dynamic_net
from tests.host.searching import EPOCHS, EVALUATIONS, Place, front

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(120)

QUICK = ("--duration", "0.1", "--precision", "0.2", "--no-sentinel")
SIZE = ("--set", "resolution=8", "--set", "in_channels=1", "--set", "classes=10")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running agent."""
    with serving(tmp_path_factory.mktemp("agent")) as (_, wire):
        yield wire.address


@pytest.fixture
def net(place: Place) -> str:
    (place.folder / "net.onnx").write_bytes(conv_net())
    return "net.onnx"


@pytest.fixture
def measure(boardfront: Command, device: str) -> Callable[..., dict[str, Any]]:
    """Measure on the running agent and return the JSON."""

    def call(*arguments: str) -> dict[str, Any]:
        answer = boardfront("measure", "--device", device, *QUICK, "--json", *arguments)
        code, out, told = answer
        assert (code, told) == (0, "")
        content: dict[str, Any] = json.loads(out)
        return content

    return call


def test_measure_for_real(place: Place, net: str) -> None:
    done = place.call("measure", net, "--option", "threads=1", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    content = json.loads(done.stdout)
    low_s, high_s = content["interval_s"]
    assert 0 < low_s <= content["median_s"] <= high_s < 1.0
    assert content["verdict"] in {"ok", "unstable", "drifted", "contended", "throttled"}
    assert content["target"]["backend"] == "onnxruntime"
    assert content["target"]["options"]["threads"] == "1"
    assert len(content["target"]["fingerprint"]) >= 8
    assert content["origin"] == "measured"
    assert content["circumstances"]


def test_measure_as_json(measure: Callable[..., dict[str, Any]], net: str) -> None:
    content = measure(net, "--backend", "fake", "--option", "time_s=0.004")
    # Programmed, with a relative noise of 0.1 %.
    assert content["median_s"] == pytest.approx(0.004, rel=2e-3)
    assert content["verdict"] == "ok"
    assert content["origin"] == "programmed"
    assert content["purpose"] == "candidate"
    assert content["task"]["kind"] == "inference"
    assert content["task"]["batch"] == 1
    assert content["target"]["options"]["time_s"] == "0.004"
    assert content["samples_s"] == [
        sample for window in content["windows"] for sample in window["samples_s"]
    ]
    assert len(content["samples_s"]) == content["statistics"]["samples"]
    assert content["statistics"]["median_s"] == content["median_s"]
    for key in (
        *("id", "created_unix_s", "device", "structure_hash", "measurement_protocol_version"),
        *("evidence", "warm_up_s", "first_run_s", "compile_s", "circumstances", "precision"),
    ):
        assert key in content


@pytest.mark.slow
def test_the_store_answers_unless_fresh(
    measure: Callable[..., dict[str, Any]], net: str, place: Place
) -> None:
    fake = (net, "--backend", "fake")
    first = measure(*fake)
    assert measure(*fake) == first
    fresh = measure(*fake, "--fresh")
    assert fresh["id"] != first["id"]
    # A closer look than the stored ones were.
    closer = measure(*fake, "--duration", "0.5")
    assert closer["id"] not in {first["id"], fresh["id"]}
    # Another option is another time, another store knows nothing.
    assert measure(*fake, "--option", "time_s=0.002")["id"] != closer["id"]
    other = place.folder / "other.db"
    assert measure(*fake, "--store", str(other))["id"] == 1
    assert other.exists()


@pytest.mark.slow
def test_shapes_of_a_dynamic_model(measure: Callable[..., dict[str, Any]], place: Place) -> None:
    path = place.folder / "dynamic.onnx"
    path.write_bytes(dynamic_net())
    small = measure(str(path), "--shape", "x=1x3x8x8")
    large = measure(str(path), "--shape", "x=1x3x256x256")
    assert small["structure_hash"] == large["structure_hash"]
    # 1024 times the work.
    assert large["median_s"] > small["median_s"]
    # A shape is part of the key; a programmed time is always good enough to be kept.
    shaped = [
        measure(str(path), "--backend", "fake", "--shape", f"x=1x3x{side}x8")["id"]
        for side in (8, 9, 8)
    ]
    assert shaped[0] == shaped[2] != shaped[1]


def test_measure_as_text(boardfront: Command, net: str, device: str) -> None:
    arguments = (net, "--device", device, "--backend", "fake", "--option", "time_s=0.0123")
    code, out, told = boardfront("measure", *arguments)
    assert (code, told) == (0, "")
    assert out.startswith("net.onnx on bench, fake 1 (")
    assert "time_s=0.0123" in out
    assert "batch 1" in out
    median = next(line for line in out.splitlines() if "median" in line)
    assert " ms" in median
    assert "programmed, not measured" in median
    assert "95 %" in out
    assert "verdict   ok" in out


def test_a_failure_as_json(boardfront: Command, net: str, device: str) -> None:
    code, out, told = boardfront(
        *("measure", net, "--device", device, "--json"),
        *("--backend", "fake", "--option", "fault=unsupported"),
    )
    assert code == 1
    content = json.loads(out)
    assert content["failure"]["kind"] == "unsupported"
    assert "median_s" not in content
    assert len(told.splitlines()) == 1


def test_devices(boardfront: Command, device: str) -> None:
    code, out, told = boardfront("devices", "--device", device)
    assert (code, told) == (0, "")
    for word in ("fingerprint", device, "bench", "fake 1", "onnxruntime "):
        assert word in out
    code, out, _ = boardfront("devices", "--device", device, "--json")
    (content,) = json.loads(out)
    assert code == 0
    assert content["device"] == device
    assert content["name"] == "bench"
    assert {info["name"] for info in content["backends"]} >= {"fake", "onnxruntime"}
    assert content["fingerprint"] in boardfront("devices", "--device", device)[1]


def test_space_list(boardfront: Command) -> None:
    code, out, told = boardfront("space", "list")
    assert (code, told) == (0, "")
    assert "\nspos\t" in f"\n{out}"
    listed = json.loads(boardfront("space", "list", "--json")[1])
    content = {one["name"]: {s["name"] for s in one["settings"]} for one in listed}
    assert content["spos"] >= {"resolution", "stages"}
    assert content["etnas"] >= {"resolution", "stem"}


def test_space_show(boardfront: Command, finished: Place) -> None:
    member = front(finished.run_folder)["members"][0]
    settings = (
        *(*SIZE, "--set", "stem_channels=8", "--set", "stem_stride=1"),
        *("--set", "stages=[[16, 2], [32, 2]]", "--set", "last_channels=32"),
    )
    code, out, told = boardfront("space", "show", "spos", member["encoding"], *settings, "--json")
    assert (code, told) == (0, "")
    content = json.loads(out)
    assert {key: content[key] for key in member["counts"]} == member["counts"]
    assert all(type(content[key]) is int for key in ("params", "macs", "activations"))
    text = boardfront("space", "show", "spos", member["encoding"], *settings)[1]
    assert f"({member['counts']['params']})" in text


def test_runs_touches_no_journal(boardfront: Command, place: Place, finished: Place) -> None:
    shutil.copytree(finished.runs, place.runs)
    (journal,) = place.runs.glob("*/journal.jsonl")
    kept = b"".join(journal.read_bytes().splitlines(keepends=True)[:-1])
    journal.write_bytes(kept)
    for arguments in (("runs",), ("runs", "--json")):
        assert boardfront(*arguments)[0] == 0
        assert journal.read_bytes() == kept


def test_runs(boardfront: Command, place: Place, finished: Place) -> None:
    code, out, told = boardfront("runs")
    assert (code, out) == (0, "")
    assert "no runs in runs" in told
    shutil.copytree(finished.runs, place.runs)
    done = place.run_folder.path
    torn = done.with_name("torn-run")
    shutil.copytree(done, torn)
    lines = (torn / "journal.jsonl").read_bytes().splitlines(keepends=True)
    evaluations = [i for i, line in enumerate(lines) if b'"type":"evaluation"' in line]
    (torn / "journal.jsonl").write_bytes(b"".join(lines[: evaluations[4]]) + b'{"v":1,"ty')
    damaged = done.with_name("damaged-run")
    shutil.copytree(done, damaged)
    (damaged / "journal.jsonl").write_text("nonsense\n")

    code, out, _ = boardfront("runs", "--json")
    assert code == 0
    found = {content["name"]: content for content in json.loads(out)}
    assert {name: content["state"] for name, content in found.items()} == {
        done.name: "completed",
        "torn-run": "interrupted",
        "damaged-run": "damaged",
    }
    assert found[done.name]["evaluations"] == EVALUATIONS
    assert found[done.name]["epochs"] == EPOCHS
    assert found[done.name]["front"] == len(front(finished.run_folder)["members"])
    assert found["torn-run"]["evaluations"] == 4
    assert "damaged-run" in found["damaged-run"]["detail"]
    code, out, told = boardfront("runs")
    assert code == 0
    for name in found:
        assert name in out
    assert told == "go on with: boardfront search --resume runs/torn-run\n"


@pytest.mark.parametrize(
    "command",
    [
        *(
            (),
            ("measure",),
            ("devices",),
            ("device",),
            ("device", "verify"),
            ("search",),
            ("runs",),
        ),
        *(("space", "list"), ("space", "show")),
    ],
    ids=" ".join,
)
def test_help_has_an_example(boardfront: Command, command: tuple[str, ...]) -> None:
    code, out, told = boardfront(*command, "--help")
    assert (code, told) == (0, "")
    assert f"Example: boardfront {' '.join(command)}" in " ".join(out.split())
