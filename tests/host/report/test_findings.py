"""What a run found: members and their marks, residuals, counts, and how it is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.host.report.made import Plan, latency, make

from boardfront.host import text
from boardfront.host.report import words
from boardfront.host.report.circumstances import read_surroundings
from boardfront.host.report.findings import MemberTime
from boardfront.host.report.hypervolumes import growths
from boardfront.host.report.pairs import member_pairs
from boardfront.host.report.reading import read_findings
from boardfront.host.report.theme import PAPER
from boardfront.host.report.time_charts import predicted_chart
from boardfront.host.run_folder import RunFolder
from boardfront.host.view.run_view import CandidateView, RunState, RunView
from boardfront.protos.records import Origin, Verdict
from boardfront.search.objective import Objective, ObjectiveKind

if TYPE_CHECKING:
    from pathlib import Path


def test_members_stand_as_the_front_file_has_them(whole: RunFolder) -> None:
    found = read_findings(whole)
    shipped = json.loads(whole.front_json.read_text())["members"]
    assert [m.candidate.encoding for m in found.members] == [m["encoding"] for m in shipped]
    assert [m.test_accuracy for m in found.members] == [m["test_accuracy"] for m in shipped]
    assert [m.counts.params for m in found.members if m.counts] == [
        m["counts"]["params"] for m in shipped
    ]
    assert all(len(member.blocks) == 14 for member in found.members)


def test_members_have_the_numbers_by_which_they_are_exported(tmp_path: Path) -> None:
    run = make(tmp_path, Plan(seed=4, timed="rock5b", limit_ms=0.0))
    shipped = {
        m["encoding"]: m["index"] for m in json.loads(run.front_json.read_text())["members"]
    }
    found = read_findings(run)
    assert {m.candidate.encoding: m.index for m in found.members} == shipped
    assert [member.index for member in found.members] == list(range(len(shipped)))
    first_target = [m.times["pi5"].searched for m in found.members]
    times_s = [one.median_s for one in first_target if one]
    assert times_s != sorted(times_s)
    # The export's default is the first target, whatever the search went by.
    (fastest,) = (member for member in found.members if "fastest" in member.marks)
    measured = [m.times["pi5"].measured for m in found.members]
    least = min((one for one in measured if one), key=lambda one: one.median_s)
    assert fastest.times["pi5"].measured == least
    run.front_json.unlink()
    assert {m.candidate.encoding: m.index for m in read_findings(run).members} == shipped


def test_a_member_that_the_front_file_lacks_has_a_number_of_its_own(tmp_path: Path) -> None:
    run = make(tmp_path, Plan(evaluations=24))
    content = json.loads(run.front_json.read_text())
    lost = content["members"].pop(0)["encoding"]
    run.front_json.write_text(json.dumps(content))
    found = read_findings(run)
    assert [m.index for m in found.members] == [*range(1, len(found.members) + 1)]
    assert found.members[-1].candidate.encoding == lost


_ODD = {
    "is not at hand": "raise RuntimeError('it needs its\\ncompiler')\n",
    "cannot tell blocks": """\
from boardfront.search.spaces.spos import SposSpace

class Odd(SposSpace):
    def decompose(self, encoding):
        raise KeyError(encoding)
""",
}


@pytest.mark.parametrize("said", _ODD)
def test_a_space_that_fails_leaves_the_rest_of_the_report(
    said: str, whole: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"odd_{len(said)}"
    metadata = tmp_path / f"{package}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[boardfront.spaces]\nodd = {package}:Odd\n")
    (tmp_path / f"{package}.py").write_text(_ODD[said])
    monkeypatch.syspath_prepend(tmp_path)
    run = RunFolder(tmp_path / "run")
    shutil.copytree(whole.path, run.path)
    run.experiment.write_text(run.experiment.read_text().replace('"spos"', '"odd"'))
    found = read_findings(run)
    (note,) = found.notes
    assert note.startswith(f"the space {said} (")
    assert note.endswith("missing")
    assert "\n" not in note
    assert all(member.blocks == () for member in found.members)
    assert all((member.counts is None) == ("not at hand" in said) for member in found.members)
    assert found.members[0].test_accuracy is not None


def test_predicted_times_keep_their_intervals(whole: RunFolder) -> None:
    found = read_findings(whole)
    pairs = member_pairs(found, found.targets[0])
    assert pairs
    for pair in pairs:
        assert pair.predicted_low_s is not None
        assert pair.predicted_high_s is not None
        assert pair.predicted_low_s < pair.predicted_s < pair.predicted_high_s
        between = text.format_interval(pair.predicted_low_s, pair.predicted_high_s)
        assert f" ({between}), measured " in pair.words
    (drawn,) = (
        layer["encoding"]
        for layer in predicted_chart(pairs, PAPER)["hconcat"][0]["layer"]
        if layer.get("encoding", {}).get("x2")
    )
    assert (drawn["x"]["field"], drawn["x2"]["field"]) == ("predicted_low", "predicted_high")


def test_marks_are_what_an_export_picks(whole: RunFolder) -> None:
    found = read_findings(whole)
    marked = {mark: member for member in found.members for mark in member.marks}
    measured = [m.times["pi5"].measured for m in found.members]
    assert marked["fastest"].times["pi5"].measured == min(
        (one for one in measured if one), key=lambda one: one.median_s
    )
    assert marked["best"].candidate.accuracy == max(
        m.candidate.accuracy or 0 for m in found.members
    )


def test_residuals_are_of_searched_against_re_measured(whole: RunFolder) -> None:
    residual = read_findings(whole).residuals["pi5"]
    # made.Plan.over is 1.02, give or take 1.2 %.
    assert residual.bias == pytest.approx(1 / 1.02 - 1, abs=0.012)
    assert residual.noise_floor is not None
    assert "the times that the search went by are off by" in words.residual_words(residual, "pi5")


def test_failures_are_counted_by_their_reason(whole: RunFolder) -> None:
    found = read_findings(whole)
    (failure,) = found.failures
    assert (failure.kind, failure.target, failure.count) == ("out_of_memory", "rock5b", 2)
    assert found.scored == 58
    assert sum(found.verdicts["pi5"].values()) == 58


def test_what_cannot_be_trusted_says_so() -> None:
    time = MemberTime(searched=latency(0.001), measured=latency(0.001, Verdict.THROTTLED))
    assert words.trust(time) == "do not trust: throttled"
    assert words.trust(replace(time, measured=latency(0.001))) == "ok"
    assert words.trust(replace(time, measured=None)) == "ok, not yet re-measured"
    unmeasured = replace(time, searched=latency(0.001, Verdict.DRIFTED), measured=None)
    assert words.trust(unmeasured) == "do not trust: drifted, not yet re-measured"
    guessed = replace(latency(0.001), verdict=None, measurement_id=None, predicted=True)
    assert words.trust(replace(unmeasured, searched=guessed)) == (
        "do not trust: predicted, not yet re-measured"
    )
    assert words.trust(replace(time, failure="it burnt")) == "do not trust: failed"
    assert words.trust(MemberTime()) == "no time"


@pytest.mark.parametrize(
    ("limit_s", "over", "said"),
    [
        (0.002, False, "kept"),
        (0.001005, False, "kept by the median only"),
        (0.0009, True, "broken"),
    ],
)
def test_a_limit_is_kept_with_its_interval(limit_s: float, over: bool, said: str) -> None:  # noqa: FBT001
    time = MemberTime(measured=latency(0.001), limit_s=limit_s, over_limit=over)
    assert words.limit(time) == said


def test_the_first_lines_say_what_was_found(whole: RunFolder) -> None:
    lines = words.headline(read_findings(whole))
    assert lines[0].startswith("60 of 60 candidates evaluated, 2 failed, ")
    assert lines[1].startswith("On pi5 the fastest is member 0, ")
    assert any("of the front's times on rock5b cannot be trusted" in line for line in lines)


def test_a_run_that_goes_on_says_that_it_is_not_over(part: RunFolder, empty: RunFolder) -> None:
    begun, *rest = words.headline(read_findings(part))
    assert begun.startswith("The run was interrupted: it ended without a word")
    assert rest[0].startswith("17 of 60 candidates evaluated")
    assert any("not yet re-measured on pi5" in line for line in rest)
    assert "No candidate is evaluated yet. The run was at: training." in words.headline(
        read_findings(empty)
    )


def test_circumstances_are_told_by_device(whole: RunFolder) -> None:
    (first, second), notes = read_surroundings(whole.measurements)
    assert notes == ()
    assert (first.device, second.device) == ("pi5 (00000000)", "rock5b (11111111)")
    assert (first.governors, second.governors) == (("schedutil",), ("performance",))
    assert second.readings["temperature (C)"].high == 71.0
    assert (first.throttle_events, second.throttle_events) == (0, 12)
    assert second.evidence == (("the hardware held itself back 5 times", 4),)


def test_targets_of_one_device_that_differ_in_their_task_are_told_apart(
    whole: RunFolder, tmp_path: Path
) -> None:
    entries = [json.loads(line) for line in whole.measurements.read_text().splitlines()]
    here = [entry for entry in entries if entry["device_name"] == "pi5"]
    for entry in here[::3]:
        entry["key"]["task"]["batch"] = 8
    for entry in here[1::3]:
        entry["key"]["task"]["kind"] = "training-step"
    path = tmp_path / "measurements.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in here))
    found, _ = read_surroundings(path)
    tasks = {one.task for one in found}
    assert tasks == {"inference, batch 8", "training-step, batch 1", "inference, batch 1"}
    assert sum(one.measurements for one in found) == len(here)


def test_damaged_measurements_are_told(whole: RunFolder, tmp_path: Path) -> None:
    lines = whole.measurements.read_text().splitlines()
    damaged = tmp_path / "measurements.jsonl"
    damaged.write_text("\n".join([*lines[:3], '{"id": 3', "[]", *lines[5:]]) + "\n")
    found, notes = read_surroundings(damaged)
    assert sum(one.measurements for one in found) == 22
    assert notes == ("measurements.jsonl: 2 lines cannot be read",)
    assert read_surroundings(tmp_path / "none.jsonl") == ((), ())


def test_programmed_times_are_not_to_be_acted_upon(tmp_path: Path) -> None:
    run = make(tmp_path, Plan(evaluations=24, origin=Origin.PROGRAMMED))
    assert words.origin_warning(read_findings(run)) == (
        "Some times here are programmed, not measured: do not act on them."
    )


def test_a_hypervolume_grows_with_the_front_and_is_the_area() -> None:
    (grown,) = growths(
        [_view("a", [(0.5, 2.0), (0.6, 3.0), (0.6, 2.0), (0.9, 1.0)], first=2)], "t"
    )
    # Worst of the first two: accuracy 0.5, 3 s. Areas by hand.
    assert grown.reference == (-0.5, 3.0)
    assert [at for at, _ in grown.steps] == [0, 3, 4]
    assert [volume for _, volume in grown.steps] == pytest.approx([0.0, 0.1, 0.8])
    assert (grown.evaluations_to(0.1), grown.evaluations_to(1.0)) == (3, 4)


def test_runs_are_compared_against_one_reference() -> None:
    views = [
        _view("a", [(0.5, 2.0), (0.8, 1.0)], first=2),
        _view("b", [(0.4, 4.0), (0.7, 1.5)], first=2),
    ]
    one, two = growths(views, "t")
    assert one.reference == two.reference == (-0.4, 4.0)
    assert one.last == pytest.approx(0.4 * 3.0)
    assert two.last == pytest.approx(0.3 * 2.5)
    assert "a has the largest" in words.hypervolume_words([one, two])


def test_over_the_limit_adds_nothing() -> None:
    view = _view("a", [(0.5, 3.0), (0.9, 2.9), (0.6, 1.0)], first=1, limit=2.0)
    (grown,) = growths([view], "t")
    assert [at for at, _ in grown.steps] == [0, 3]
    assert [volume for _, volume in grown.steps] == pytest.approx([0.0, 0.1 * 2.0])


def _view(
    name: str, scores: list[tuple[float, float]], *, first: int, limit: float | None = None
) -> RunView:
    """Return a run with so many candidates in its first generation."""
    return RunView(
        name=name,
        folder=None,  # type: ignore[arg-type]
        state=RunState.COMPLETED,
        objectives=(
            Objective(name="accuracy", kind=ObjectiveKind.ACCURACY),
            Objective(name="time", kind=ObjectiveKind.LATENCY, target="t", limit=limit),
        ),
        candidates=tuple(
            CandidateView(
                index=index,
                generation=int(index >= first),
                encoding=str(index),
                accuracy=accuracy,
                latencies={"t": latency(time_s)},
                elapsed_s=1.0,
            )
            for index, (accuracy, time_s) in enumerate(scores)
        ),
    )
