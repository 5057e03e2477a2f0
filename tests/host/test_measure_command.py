"""`boardfront measure` with a reference, on chosen cores, and beside the sentinel."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent.harness import serving
from tests.device_agent.onnx_files import conv_net, dynamic_net
from tests.latency_models import samples

from boardfront.host.commands.measure_output import to_json, to_text
from boardfront.latency_models.store import MeasurementStore
from boardfront.protos.records import (
    Circumstances,
    Energy,
    Normalised,
    Origin,
    Purpose,
    Result,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.host.searching import Place

    from boardfront.latency_models.base import Measurement

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(120)

QUICK = ("--duration", "0.1", "--precision", "0.2", "--no-sentinel")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running agent."""
    with serving(tmp_path_factory.mktemp("agent")) as (_, wire):
        yield wire.address


@pytest.fixture
def fake(boardfront: Command, device: str, place: Place) -> Command:
    """Measure net.onnx by the fake backend; other.onnx lies beside it."""
    (place.folder / "net.onnx").write_bytes(conv_net(8))
    (place.folder / "other.onnx").write_bytes(conv_net(16))

    def call(*arguments: str) -> tuple[int, str, str]:
        given = arguments if "--sentinel" in arguments else (*QUICK, *arguments)
        return boardfront("measure", "net.onnx", "--device", device, "--backend", "fake", *given)

    return call


def _content(answer: tuple[int, str, str]) -> dict[str, Any]:
    code, out, told = answer
    assert (code, told) == (0, "")
    content: dict[str, Any] = json.loads(out)
    return content


def _stored(place: Place) -> list[Measurement]:
    """Return all that is stored, oldest first."""
    with MeasurementStore(place.store) as store:
        (first,) = store.get([1])
        return list(reversed(store.recent(device_id=first.device_id)))


def test_the_ratio_to_a_reference(fake: Command, place: Place) -> None:
    content = _content(fake("--reference", "other.onnx", "--json"))
    ratio = content["normalised"]
    # By the fake's formula: 50 us + 1 us a node + 1 ns a weight.
    ours_s, its_s = 53e-6 + 1e-9 * (216 + 576), 53e-6 + 1e-9 * (432 + 2304)
    assert ratio["ratio"] == pytest.approx(ours_s / its_s, rel=2e-3)
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
    assert ratio["reference_quiet_s"] == pytest.approx(its_s, rel=2e-3)
    assert ratio["median_s"] == ratio["ratio"] * ratio["reference_quiet_s"]
    assert ratio["verdict"] == "ok"
    assert content["sampled_in_turn"]
    # The reference alone, then both in turn.
    alone, divided, beside = _stored(place)
    assert not alone.sampled_in_turn
    assert alone.key.structure_hash == beside.key.structure_hash != divided.key.structure_hash
    assert divided.id == content["id"]
    assert alone.result is not None
    assert ratio["reference_quiet_s"] == alone.result.statistics.median_s


def test_the_store_answers_for_the_reference_and_for_the_ratio(
    fake: Command, place: Place
) -> None:
    first = _content(fake("--reference", "other.onnx", "--json"))
    assert _content(fake("--reference", "other.onnx", "--json")) == first
    assert len(_stored(place)) == 3
    fresh = _content(fake("--reference", "other.onnx", "--json", "--fresh"))
    assert fresh["id"] != first["id"]
    # The reference's own time was known; without a reference the time alone is not.
    assert len(_stored(place)) == 5
    assert _content(fake("--json"))["normalised"] is None
    assert len(_stored(place)) == 6


def test_what_a_person_reads_of_a_ratio(fake: Command) -> None:
    code, out, told = fake("--reference", "other.onnx")
    assert (code, told) == (0, "")
    lines = dict(line[2:].split(maxsplit=1) for line in out.splitlines()[1:] if line[2] != " ")
    assert " x other.onnx  (" in lines["ratio"]
    assert " of other.onnx alone)" in lines["quiet"]
    assert lines["verdict"] == "ok"
    assert " ok" in next(line for line in out.splitlines() if "of ratio" in line)
    # All values begin in one column.
    assert {line[12] != " " and line[11] == " " for line in out.splitlines()[1:]} == {True}


def test_a_reference_takes_the_shapes_that_it_needs(
    boardfront: Command, device: str, place: Place
) -> None:
    (place.folder / "dynamic.onnx").write_bytes(dynamic_net())
    (place.folder / "fixed.onnx").write_bytes(conv_net())
    shape = ("--shape", "x=1x3x8x8")
    common = ("--device", device, "--backend", "fake", *QUICK, "--json")
    for reference in ("fixed.onnx", "dynamic.onnx"):
        answer = boardfront("measure", "dynamic.onnx", *shape, "--reference", reference, *common)
        assert _content(answer)["normalised"] is not None


def test_a_reference_that_is_none(fake: Command, place: Place) -> None:
    assert fake("--reference", "gone.onnx")[0] == 2
    (place.folder / "notes.onnx").write_text("no model")
    code, _, told = fake("--reference", "notes.onnx")
    assert code == 2
    assert "notes.onnx is not an ONNX model" in told


def test_cores_are_part_of_the_answer(fake: Command) -> None:
    everywhere = _content(fake("--json"))
    core = everywhere["target"]["cpus"].split("-")[0].split(",")[0]
    one = _content(fake("--cpus", core, "--json"))
    assert one["target"]["cpus"] == core
    # Another set of cores is another time; the same one is not.
    assert (one["id"] == everywhere["id"]) is (everywhere["target"]["cpus"] == core)
    assert _content(fake("--cpus", core, "--json")) == one
    assert f", cores {core}\n" in fake("--cpus", core)[1]
    code, _, told = fake("--cpus", "4095")
    assert code == 2
    assert "cores '4095' were asked" in told


def test_a_device_cooler_than_asked_does_not_wait(fake: Command) -> None:
    assert _content(fake("--start-below", "150", "--json"))["verdict"] == "ok"


def test_a_failing_reference_is_named(boardfront: Command, device: str, place: Place) -> None:
    (place.folder / "net.onnx").write_bytes(conv_net(8))
    (place.folder / "other.onnx").write_bytes(conv_net(16))
    code, out, told = boardfront(
        *("measure", "net.onnx", "--reference", "other.onnx", "--device", device, *QUICK),
        *("--backend", "fake", "--option", "fault=unsupported"),
    )
    assert (code, out) == (1, "")
    assert told.startswith("boardfront: other.onnx was not measured: unsupported")


def test_the_sentinel_is_timed_once_in_twenty_jobs(fake: Command, place: Place) -> None:
    arguments = ("--sentinel", "--duration", "0.1", "--precision", "0.2", "--json", "--fresh")
    for _ in range(2):
        _content(fake(*arguments))
    stored = _stored(place)
    assert [one.purpose for one in stored] == [Purpose.SENTINEL] + [Purpose.CANDIDATE] * 2
    assert not stored[0].sampled_in_turn
    with MeasurementStore(place.store) as store:
        for number in range(18):
            copy = dataclasses.replace(stored[1], id=None, job_id=f"another-{number}")
            store.append(copy)
    _content(fake(*arguments))
    assert [one.purpose for one in _stored(place)[-2:]] == [Purpose.SENTINEL, Purpose.CANDIDATE]


def _rich_result() -> Result:
    """Return a result of a board that tells everything."""
    seen = Circumstances(
        governor="performance",
        frequency_before_hz=2.4e9,
        frequency_after_hz=2.4e9,
        frequency_min_hz=1.2e9,
        temperature_before_c=41.4,
        temperature_max_c=62.7,
        worker_peak_rss_bytes=68_400_000,
    )
    return dataclasses.replace(
        samples.result(verdict=Verdict.THROTTLED),
        origin=Origin.MEASURED,
        circumstances=seen,
        energy=Energy(
            source="rapl package-0", median_j=0.0123, low_j=0.0121, high_j=0.0125, windows=9
        ),
        normalised=Normalised(
            reference_subject_id="reference",
            reference_sha256="c" * 64,
            ratio=1.25,
            low=1.24,
            high=1.26,
            windows=9,
            merged=1,
            autocorrelation=0.1,
            elasticity=0.97,
            reference_median_s=0.0018,
            reference_quiet_s=0.0016,
            verdict=Verdict.OK,
            evidence=(),
        ),
    )


def _lines(result: Result, *, reference: str = "") -> list[str]:
    measurement = samples.measurement(result)
    return to_text(measurement, result, name="net.onnx", reference=reference).splitlines()


def test_all_that_a_board_tells_is_shown() -> None:
    lines = _lines(_rich_result(), reference="other.onnx")
    assert "  ratio     1.25 x other.onnx  (1.24 .. 1.26, +-0.80%, elasticity 0.97)" in lines
    assert (
        "  quiet     2.000 ms  (1.984 .. 2.016 ms; ratio x 1.600 ms of other.onnx alone)" in lines
    )
    assert "  energy    12.3 mJ a run (12.1 .. 12.5), rapl package-0" in lines
    assert "  memory    worker peak 68.4 MB, model 1.23 kB" in lines
    assert "  device    governor performance, 1.20 .. 2.40 GHz, 41 .. 63 C" in lines
    assert lines[-3:] == [
        "  verdict   throttled: six windows",
        "  of ratio  ok",
        "            act on the ratio, not on the median",
    ]


def test_what_a_board_does_not_tell_is_left_out() -> None:
    bare = dataclasses.replace(
        _rich_result(), circumstances=Circumstances(), energy=None, normalised=None
    )
    text = "\n".join(_lines(bare))
    assert not any(f"  {word} " in text for word in ("energy", "device", "ratio", "quiet"))
    assert "  memory    model 1.23 kB" in text
    assert "None" not in text
    assert "do not act on this number" in text
    missing = _lines(bare, reference="other.onnx")
    assert "  ratio     none: other.onnx was not measured beside it" in missing


def test_without_the_quiet_time_a_ratio_stays_a_ratio() -> None:
    result = _rich_result()
    assert result.normalised is not None
    bare = dataclasses.replace(
        result,
        normalised=dataclasses.replace(
            result.normalised, reference_quiet_s=None, verdict=Verdict.DRIFTED, evidence=("so",)
        ),
    )
    lines = _lines(bare, reference="other.onnx")
    assert not any("quiet " in line for line in lines[:-1])
    assert "  of ratio  drifted: so" in lines
    assert lines[-1].endswith("do not act on this number: quiet the machine, then --fresh")


def test_json_has_units_in_its_names_and_null_for_what_is_not_known() -> None:
    content = to_json(samples.measurement(_rich_result()))
    assert content["energy"] == {
        "source": "rapl package-0",
        "median_j": 0.0123,
        "low_j": 0.0121,
        "high_j": 0.0125,
        "windows": 9,
    }
    assert content["memory"] == {"worker_peak_rss_bytes": 68_400_000, "artifact_bytes": 1234}
    assert content["normalised"]["median_s"] == 1.25 * 0.0016
    assert content["circumstances"]["frequency_min_hz"] == 1.2e9
    assert content["circumstances"]["power_w"] is None
    assert set(content["circumstances"]) == {f.name for f in dataclasses.fields(Circumstances)}
    plain = to_json(samples.measurement(samples.result()))
    assert plain["energy"] is plain["normalised"] is None
    assert plain["memory"]["worker_peak_rss_bytes"] is None
    assert json.loads(json.dumps(content, allow_nan=False)).keys() == content.keys()
