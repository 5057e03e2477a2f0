"""`boardfront export` of a run that really ended."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from tests.host.searching import PROCESSES, WITHIN_S, Place, errors, front

from boardfront.host.data import catalog
from boardfront.host.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(240)

FILES = {"README.md", "example.c", "model.onnx", "promise.json"}


@pytest.fixture
def copy(finished: Place, place: Place) -> RunFolder:
    """A finished run that a test may spoil."""
    made = place.runs / finished.run_folder.path.name
    shutil.copytree(finished.run_folder.path, made)
    return RunFolder(made)


@pytest.fixture(scope="session")
def exported(finished: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The most accurate network of a run, exported."""
    folder = tmp_path_factory.mktemp("export") / "net"
    done = finished.call("export", "latest", "--pick", "best", "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def _promise(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "promise.json").read_text())
    return content


def _weights(model: Path) -> dict[str, np.ndarray[Any, Any]]:
    graph = onnx.load(model).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


def _best(run: RunFolder) -> dict[str, Any]:
    members: list[dict[str, Any]] = front(run)["members"]
    return max(members, key=lambda member: float(member["validation_accuracy"]))


def test_the_folder_is_whole(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == FILES
    assert [path.name for path in exported.parent.iterdir()] == ["net"]
    # Others may read it.
    assert exported.stat().st_mode & 0o777 == 0o755


def test_the_weights_are_those_that_were_measured(exported: Path, finished: Place) -> None:
    member = _best(finished.run_folder)
    measured = _weights(finished.run_folder.path / member["model"])
    found = _weights(exported / "model.onnx")
    assert found.keys() == measured.keys()
    assert all(np.array_equal(found[name], measured[name]) for name in measured)


def test_the_model_is_as_right_as_it_was_reported(exported: Path, finished: Place) -> None:
    told = _promise(exported)
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    test = catalog.load("digits", resolution=8, seed=3).test
    # From pixels, by the formula that the page tells.
    data = catalog.load("digits", resolution=8, seed=3)
    pixels = test.images.numpy() * data.std[0] + data.mean[0]
    mean, std = told["normalisation"]["mean"][0], told["normalisation"]["std"][0]
    right = sum(
        int(np.argmax(session.run(None, {told["input"]["name"]: image})[0]) == label)
        for image, label in zip(
            ((pixels - mean) / std).astype(np.float32)[:, None], test.labels.numpy(), strict=True
        )
    )
    # One image may fall the other way: torch and onnxruntime add in different orders.
    wanted = _best(finished.run_folder)["test_accuracy"] * len(test)
    assert abs(right - wanted) <= 1.001
    assert told["accuracy"]["test"] == _best(finished.run_folder)["test_accuracy"]


def test_the_promise(exported: Path, finished: Place) -> None:
    told, member = _promise(exported), _best(finished.run_folder)
    time = member["whole"]["here"]["latency"]
    promise = told["promise"]
    assert told["encoding"] == member["encoding"]
    assert promise["median_s"] == time["median_s"]
    assert promise["interval_s"] == [time["low_s"], time["high_s"]]
    assert len(promise["process_medians_s"]) == PROCESSES
    # The times are programmed: whoever acts on them is mistaken.
    assert (promise["origin"], promise["trusted"]) == ("programmed", False)
    assert promise["target"]["devices"]
    assert (promise["target"]["backend"], promise["target"]["batch"]) == ("fake", 1)
    assert promise["target"]["options"]["noise"] == "0.001"
    assert told["input"] == {
        "name": "images",
        "dtype": "float32",
        "shape": [1, 1, 8, 8],
        "layout": "batch, channels, height, width (NCHW)",
    }
    assert told["classes"] == 10
    assert told["agreement"]["max_relative_error"] <= told["agreement"]["limit"]
    assert told["versions"]["run"]["torch"] == told["versions"]["export"]["torch"]
    assert told["batch_norm_statistics_error"] < 1e-5


def test_the_metadata_says_the_same(exported: Path) -> None:
    told = _promise(exported)
    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["boardfront.encoding"] == told["encoding"]
    assert metadata["boardfront.experiment_digest"] == told["experiment_digest"]
    assert len(told["experiment_digest"]) == 64
    assert json.loads(metadata["boardfront.promise"]) == told["promise"]
    assert json.loads(metadata["boardfront.normalisation"]) == told["normalisation"]
    assert json.loads(metadata["boardfront.versions"]) == told["versions"]
    assert metadata["boardfront.classes"] == "10"


def test_the_page_has_the_numbers(exported: Path) -> None:
    page, told = (exported / "README.md").read_text(), _promise(exported)
    mean, std = told["normalisation"]["mean"][0], told["normalisation"]["std"][0]
    assert f"x[0] = (p[0] - {mean:.9g}) / {std:.9g}" in page
    assert "| input | `images` | float32 | 1 x 1 x 8 x 8 |" in page
    assert "| output | `logits` | float32 | 1 x 10 |" in page
    assert "Do not trust this time: it was programmed, not measured" in page
    assert "weights inherited from a supernet" in page
    assert f"{told['agreement']['max_abs_error']:.2g}" in page
    for name in FILES - {"README.md"}:
        assert f"`{name}`" in page
    assert "boardfront measure model.onnx --device local --backend fake --fresh" in page


def test_what_is_printed(finished: Place, boardfront: Command) -> None:
    code, out, _ = boardfront(
        "export", "latest", "--runs", str(finished.runs), "-o", "net", "--pick", "fastest"
    )
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "exported to net"
    assert "0: " in lines[1]
    assert "fastest: the shortest time" in lines[1]
    assert lines[-1].startswith("next: boardfront measure net/model.onnx --device local")


def test_the_next_command_works(finished: Place, boardfront: Command) -> None:
    said = _json(boardfront, finished, "-o", "net")
    command = said["next"].split()
    assert command[0] == "boardfront"
    code, out, err = boardfront(*command[1:], "--json")
    assert code == 0, err
    assert json.loads(out)["median_s"] == pytest.approx(said["promise"]["median_s"], rel=0.01)


def test_the_next_command_names_the_fleet_file(copy: RunFolder, boardfront: Command) -> None:
    text = copy.experiment.read_text()
    copy.experiment.write_text(text.replace('device = "local"', 'device = "rock5b"'))
    fleet = Path("our lab/fleet.toml").absolute()
    fleet.parent.mkdir()
    fleet.write_text('[device.rock5b]\naddress = "127.0.0.1:9"\n')
    code, out, err = boardfront("export", "latest", "-o", "net", "--fleet", str(fleet))
    assert code == 0, err
    command = shlex.split(out.splitlines()[-1])
    assert command[:4] == ["next:", "boardfront", "measure", "net/model.onnx"]
    assert command[-3:] == ["--fresh", "--fleet", str(fleet)]
    page = (Path("net") / "README.md").read_text()
    assert "--device rock5b" in page
    assert str(fleet.parent) not in page


def test_a_promise_that_holds(finished: Place, boardfront: Command) -> None:
    said = _json(boardfront, finished, "-o", "net", "--verify")
    verified = said["verified"]
    assert verified["holds"]
    # Programmed, with a tenth of a percent of noise.
    assert verified["found"]["median_s"] == pytest.approx(said["promise"]["median_s"], rel=2e-3)


def test_a_promise_that_does_not_hold(copy: RunFolder, boardfront: Command) -> None:
    content = front(copy)
    for member in content["members"]:
        time = member["whole"]["here"]["latency"]
        for name in ("median_s", "low_s", "high_s"):
            time[name] /= 2
    copy.front_json.write_text(json.dumps(content))
    code, out, _ = boardfront("export", "latest", "-o", "net", "--verify")
    assert code == 1
    assert "the promise does not hold: +100." in out
    assert {path.name for path in Path("net").iterdir()} == FILES


def test_a_device_that_is_away_leaves_the_export(copy: RunFolder, boardfront: Command) -> None:
    text = copy.experiment.read_text()
    # Nothing listens there: port 9 is "discard".
    copy.experiment.write_text(text.replace('device = "local"', 'device = "127.0.0.1:9"'))
    code, _, err = boardfront("export", "latest", "-o", "net", "--verify")
    assert code == 1
    (line,) = errors(err)
    assert "net is exported, and was not measured again: " in line
    assert {path.name for path in Path("net").iterdir()} == FILES


def _json(boardfront: Command, finished: Place, *arguments: str) -> dict[str, Any]:
    code, out, err = boardfront(
        "export", "latest", "--runs", str(finished.runs), "--json", *arguments
    )
    assert code == 0, err
    content: dict[str, Any] = json.loads(out)
    return content


def test_a_limit(finished: Place, boardfront: Command) -> None:
    members = front(finished.run_folder)["members"]
    fastest = min(members, key=lambda one: float(one["whole"]["here"]["latency"]["high_s"]))
    high_s = float(fastest["whole"]["here"]["latency"]["high_s"])
    within = [m for m in members if m["whole"]["here"]["latency"]["high_s"] <= high_s * 1.0001]
    wanted = max(within, key=lambda member: float(member["validation_accuracy"]))
    limit = f"{high_s * 1.0001e6:.4f}us"
    said = _json(boardfront, finished, "-o", "net", "--max-latency", limit)
    assert said["encoding"] == wanted["encoding"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--pick", "99"), "--pick 99: expected an index of the front: 0 to "),
        (("--pick", "prettiest"), "--pick 'prettiest': expected knee, fastest, best"),
        (("--max-latency", "1us"), "no network of the front keeps it on here: the fastest, "),
        (("--max-latency", "12"), "--max-latency '12': expected a time with its unit"),
        (("--max-latency", "1ms", "--pick", "best"), "expected one of them, got both"),
        (("--target", "there"), "--target 'there': expected a target of tiny-"),
    ],
)
def test_wrong_picks(
    finished: Place, boardfront: Command, arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = boardfront(
        "export", "latest", "--runs", str(finished.runs), "-o", "net", *arguments
    )
    assert (code, out) == (2, "")
    (line,) = errors(err)
    assert words in line
    assert not Path("net").exists()


def test_no_such_run(boardfront: Command) -> None:
    code, _, err = boardfront("export", "nothing", "-o", "net")
    assert code == 2
    assert "no run 'nothing'" in err


def test_an_unfinished_run(copy: RunFolder, boardfront: Command) -> None:
    lines = copy.journal.read_text().splitlines(keepends=True)
    copy.journal.write_text("".join(line for line in lines if '"run_finished"' not in line))
    code, _, err = boardfront("export", "latest", "-o", "net")
    assert code == 2
    (line,) = errors(err)
    assert "did not reach its end" in line
    assert "go on with: boardfront search --resume" in line
    assert not Path("net").exists()


def test_folders_that_are_there(finished: Place, boardfront: Command) -> None:
    given = ("export", "latest", "--runs", str(finished.runs))
    Path("net").mkdir()
    assert boardfront(*given, "-o", "net", "--pick", "fastest")[0] == 0
    first = _promise(Path("net"))
    code, _, err = boardfront(*given, "-o", "net", "--pick", "best")
    assert code == 2
    assert "an export is there" in err
    assert _promise(Path("net")) == first
    (Path("net") / "mine.txt").write_text("kept until now")
    assert boardfront(*given, "-o", "net", "--pick", "best", "--overwrite")[0] == 0
    assert _promise(Path("net"))["index"] != first["index"]
    assert {path.name for path in Path("net").iterdir()} == FILES


def test_what_is_not_ours_stays(finished: Place, boardfront: Command) -> None:
    home = Path("home")
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    given = ("export", "latest", "--runs", str(finished.runs), "--overwrite", "-o")
    code, _, err = boardfront(*given, "home")
    assert code == 2
    assert "files that are no export" in err
    code, _, err = boardfront(*given, "home/thesis.txt")
    assert code == 2
    assert "got a file" in err
    assert (home / "thesis.txt").read_text() == "years of work"
    code, _, err = boardfront(*given, "home/thesis.txt/net")
    assert code == 1
    assert "cannot be written" in err


def test_a_full_disk_leaves_nothing(finished: Place, tmp_path: Path) -> None:
    limited = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from boardfront.host.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    given = ["export", "latest", "--runs", str(finished.runs), "-o", str(tmp_path / "net")]
    done = subprocess.run(
        [sys.executable, "-c", limited, *given],
        env={**os.environ, **finished.settings},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (line,) = errors(done.stderr)
    assert "cannot be written" in line
    assert "File too large" in line
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_is_gone(copy: RunFolder, boardfront: Command) -> None:
    copy.supernet.unlink()
    code, _, err = boardfront("export", "latest", "-o", "net")
    assert code == 2
    assert "supernet.pt is gone" in err


def test_a_damaged_checkpoint(copy: RunFolder, boardfront: Command) -> None:
    content = bytearray(copy.supernet.read_bytes())
    content[len(content) // 2] ^= 0xFF
    copy.supernet.write_bytes(content)
    code, _, err = boardfront("export", "latest", "-o", "net")
    assert code == 1
    assert "supernet.pt: damaged" in err
    assert not Path("net").exists()


def test_other_settings_give_another_state(copy: RunFolder, boardfront: Command) -> None:
    # The weights fit, but the batch norms would be found again from other images.
    text = copy.experiment.read_text()
    copy.experiment.write_text(
        text.replace("recalibration_images = 128", "recalibration_images = 64")
    )
    code, _, err = boardfront("export", "latest", "-o", "net")
    assert code == 1
    assert "are not those that scored its front" in err


def test_a_model_that_was_changed(copy: RunFolder, boardfront: Command) -> None:
    path = copy.path / _best(copy)["model"]
    model = onnx.load(path)
    weight = next(one for one in model.graph.initializer if one.name == "stem.conv.weight")
    changed = numpy_helper.to_array(weight).copy()
    changed.flat[0] = math.nextafter(changed.flat[0], math.inf) + 1e-3
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    onnx.save(model, path)
    code, _, err = boardfront("export", "latest", "--pick", "best", "-o", "net")
    assert code == 1
    assert "stem.conv.weight differs from the checkpoint's" in err
    assert not Path("net").exists()


def test_without_raw_records_the_date_is_unknown(copy: RunFolder, boardfront: Command) -> None:
    copy.measurements.unlink()
    assert boardfront("export", "latest", "-o", "net")[0] == 0
    assert "unknown: the run's raw records are gone" in (Path("net") / "README.md").read_text()


def test_a_time_that_is_not_trusted(copy: RunFolder, boardfront: Command) -> None:
    content = front(copy)
    for member in content["members"]:
        member["whole"]["here"]["latency"]["verdict"] = "contended"
        member["over_limit"] = ["here"]
    copy.front_json.write_text(json.dumps(content))
    code, out, _ = boardfront("export", "latest", "-o", "net")
    assert code == 0
    assert "do not trust this time: contended" in out
    assert "it breaks the experiment's limit" in out
    assert "**Do not trust this time: contended" in (Path("net") / "README.md").read_text()
