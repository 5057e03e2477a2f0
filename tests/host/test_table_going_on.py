"""A build that is gone on with is of what it was, and measures only what is not known."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import serving
from tests.latency_models import table_samples

from boardfront.host.chain_writer import TableSpace
from boardfront.host.commands.table_build import BuildArguments, asked_of
from boardfront.host.commands.table_file import TableFile
from boardfront.host.commands.table_where import Where
from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.latency_models.store import MeasurementStore
from boardfront.latency_models.table import NetworkRole, Table
from boardfront.latency_models.table_finalists import seed_in
from boardfront.latency_models.table_rule import BuildRule
from boardfront.protos.core_lists import parse_cpus
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.host.searching import Place

    from boardfront.latency_models.table_rule import TableTask

pytestmark = pytest.mark.timeout(180)

# Two places with four choices each.
BUILD = (
    *("table", "build", "-o", "toy.json", "--space", "spos", "--set", "resolution=8"),
    *("--set", "classes=10", "--set", "in_channels=1", "--set", "stem_channels=8"),
    *("--set", "stem_stride=1", "--set", "stages=[[16, 2]]", "--set", "last_channels=32"),
    *("--backend", "fake", "--duration", "0.05", "--rounds", "0", "--repeats", "0"),
)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running agent."""
    with serving(tmp_path_factory.mktemp("agent")) as (_, wire):
        yield wire.address


def _build(place: Place, device: str, *more: str, code: int = 0) -> str:
    done = place.call(*BUILD, "--device", device, *more)
    assert done.returncode == code, done.stderr
    return done.stderr


def _jobs(place: Place) -> Counter[str]:
    """Return how often each subject of each job is in the store."""
    with MeasurementStore(place.store) as store:
        (first,) = store.get([1])
        found = store.recent(device_id=first.device_id, limit=10_000)
    return Counter(f"{one.job_id} {one.subject_id}" for one in found)


def test_a_job_under_way_is_asked_for_in_the_same_words(place: Place, device: str) -> None:
    """Else its agent would refuse it: the same job cannot be of something else."""
    client = AgentClient(RemoteAddress(device))
    description = client.describe()
    client.close()
    cpus = description.default_cpus

    def asked(before: Table | None, *, cpus: str, options: Mapping[str, str]) -> TableTask:
        where = Where(device=device, backend="fake", options=options, cpus=cpus, store="s.db")
        space = TableSpace("spos", {"resolution": 8})
        arguments = BuildArguments(
            space="spos",
            settings={"resolution": 8},
            task="inference",
            batch=1,
            where=where,
            output=place.folder / "toy.json",
            rule=BuildRule(),
        )
        return asked_of(arguments, space, before, description, seed="s")

    defaults = {option.name: option.default for option in description.backends[0].options}
    assert "noise" in defaults
    made = table_samples.table()
    target = replace(
        made.target,
        fingerprint=description.fingerprint,
        backend="fake",
        backend_version=description.backends[0].version,
        options={**defaults, "noise": "0.002"},
        cpus=cpus,
    )
    version = description.measurement_protocol_version
    before = replace(made, target=target, seed="s", measurement_protocol_version=version)
    given = {"noise": "0.002", "fault": defaults["fault"]}
    first = asked(None, cpus=",".join(map(str, parse_cpus(cpus) or ())), options=given)
    again = asked(before, cpus="", options={})
    assert (first.cpus, dict(first.options)) == (cpus, {"noise": "0.002"})
    assert (again.cpus, dict(again.options)) == (cpus, {"noise": "0.002"})
    assert asked(None, cpus="", options={}).cpus == cpus


def test_options_networks_and_the_device_of_a_build_that_is_gone_on_with(
    place: Place, device: str
) -> None:
    file = place.folder / "toy.json"
    _build(place, device, "--option", "noise=0.002", "--calibration", "0", "--held-out", "4")
    first, known = Table.load(file), _jobs(place)

    # The option need not be said again, and nothing is measured.
    _build(place, device, "--calibration", "0", "--held-out", "4")
    assert Table.load(file) == first
    assert _jobs(place) == known
    told = _build(place, device, "--option", "noise=0.2", "--held-out", "4", code=2)
    assert "option noise is 0.002, not 0.2" in told

    # More networks are those and some besides.
    _build(place, device, "--calibration", "3", "--held-out", "6")
    more = Table.load(file)
    held_out = [one.encoding for one in more.networks if one.role is NetworkRole.HELD_OUT]
    assert set(held_out) >= {one.encoding for one in first.networks}
    assert (len(held_out), len(more.networks)) == (6, 9)
    jobs = _jobs(place)
    assert set(known) < set(jobs)
    assert set(jobs.values()) == {1}
    # Two jobs, each of some networks and the base beside them.
    assert len(jobs) - len(known) == 2 + 1 + 3 + 1

    # Another device's times cannot be gone on with.
    data = json.loads(file.read_text())
    data["target"]["fingerprint"] = "0" * 16
    file.write_text(json.dumps(data))
    told = _build(place, device, "--calibration", "0", "--held-out", "2", code=2)
    assert "the table 000000000000" in told
    assert "measure all of it anew by --force" in told
    assert json.loads(file.read_text()) == data
    _build(place, device, "--calibration", "0", "--held-out", "2", "--force")
    anew = Table.load(file)
    assert anew.target.fingerprint == first.target.fingerprint
    assert anew.seed != first.seed
    assert anew.built_unix_s > first.built_unix_s
    assert anew.target == first.target
    assert any(note.startswith("measured anew, as the target had changed") for note in anew.notes)


def test_nothing_that_another_build_has_measured_is_written_over(
    place: Place, device: str, tmp_path: Path
) -> None:
    file = place.folder / "toy.json"
    _build(place, device, "--calibration", "0", "--held-out", "2")
    first = file.read_bytes()
    # Its measurements are elsewhere: what it says must not be lost.
    told = _build(place, device, "--store", str(tmp_path / "other.db"), code=2)
    assert "expected its measurements in the store" in told
    assert file.read_bytes() == first
    _build(place, device, "--store", str(tmp_path / "other.db"), "--overwrite")
    assert Table.load(file).seed != json.loads(first)["seed"]


def test_a_build_that_began_beside_another_loses_nothing(tmp_path: Path) -> None:
    path, table = tmp_path / "t.json", table_samples.table()
    late = TableFile(path=path, replaces=seed_in(path), before=None)
    late.check("late")
    replace(table, seed="early").save(path)
    with pytest.raises(WrongInputError, match="another build has written meanwhile"):
        late.check("late")
    with pytest.raises(WrongInputError, match="another build has written meanwhile"):
        late.save(replace(table, seed="late"))
    assert Table.load(path).seed == "early"
