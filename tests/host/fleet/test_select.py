"""What a person calls a device, and who of several is taken; frozen boards delay nobody."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import serving
from tests.host.fleet.frozen import frozen_board, nobody

from boardfront.host.fleet import client
from boardfront.host.fleet.address import LocalAgent, RemoteAddress
from boardfront.host.fleet.asking import Asking, NoAnswerError, ask_all
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.credentials import DeviceCredentials
from boardfront.host.fleet.facts import facts_of, name_of
from boardfront.host.fleet.fleet_edit import put
from boardfront.host.fleet.fleet_file import Fleet, FleetEntry
from boardfront.host.fleet.lease import lease_request
from boardfront.host.fleet.select import Selected, of_entry, select, select_one
from boardfront.protos import records
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

ENTRIES = (
    FleetEntry(
        name="rock1",
        address="10.0.0.1:50051",
        device_id="id1",
        tags={"room": "lab"},
        facts={"soc": ("rk3588",), "backend": ("onnxruntime", "rknn")},
        certificate_serial="5f",
    ),
    FleetEntry(
        name="rock2",
        address="10.0.0.2:50051",
        tags={"room": "attic"},
        facts={"soc": ("rk3588",), "backend": ("onnxruntime",)},
    ),
    FleetEntry(name="pi", address="127.0.0.1:50053", tags={"room": "lab"}),
)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(path=tmp_path / "fleet.toml", entries=ENTRIES)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("local", ["local"]),
        ("rock1", ["rock1"]),
        ("10.0.0.9:1", ["10.0.0.9:1"]),
        # An address of the fleet file is that board.
        ("10.0.0.2:50051", ["rock2"]),
        ("soc=rk3588", ["rock1", "rock2"]),
        ("soc=RK3588,room=lab", ["rock1"]),
        (" room = lab , soc = rk3588 ", ["rock1"]),
        ("room=lab", ["rock1", "pi"]),
        ("backend=rknn", ["rock1"]),
    ],
)
def test_what_a_text_means(fleet: Fleet, text: str, names: list[str]) -> None:
    found = select(text, fleet)
    assert [one.name for one in found] == names
    for one in found:
        entry = fleet.find(one.name)
        assert one.entry == entry
        if entry is not None:
            assert one.address.resolve() == entry.address


def test_an_enrolled_board_is_reached_with_credentials(fleet: Fleet, tmp_path: Path) -> None:
    enrolled, plain = (select(name, fleet)[0].address for name in ("rock1", "rock2"))
    assert enrolled.credentials == DeviceCredentials(tmp_path, "id1")
    assert plain.credentials is None
    assert isinstance(select("local", fleet)[0].address, LocalAgent)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rock3", r"device 'rock3': expected 'local' or HOST:PORT.*\(rock1, rock2, pi\).*'rock"),
        ("there:99999", r"device 'there:99999': expected 'local' or HOST:PORT"),
        ("soc=rk3566", r"no board in .* has soc=rk3566: expected tags out of .*soc=rk3588"),
        ("room=lab,soc=x", r"no board in .* has room=lab,soc=x"),
        ("room=", r"tag 'room=': expected KEY=VALUE"),
        ("room=lab,", r"tag '': expected KEY=VALUE"),
        ("", r"device '': expected"),
    ],
)
def test_what_means_nothing(fleet: Fleet, text: str, expected: str) -> None:
    with pytest.raises(WrongInputError, match=expected) as caught:
        select(text, fleet)
    assert len(str(caught.value).splitlines()) == 1


def test_the_persons_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARDFRONT_FLEET", str(tmp_path / "mine.toml"))
    with pytest.raises(WrongInputError, match="has none yet: boardfront device add"):
        select("rock2")
    put(tmp_path / "mine.toml", ENTRIES[1])
    assert select("rock2")[0].entry == ENTRIES[1]
    assert select("rock2", tmp_path / "mine.toml")[0].entry == ENTRIES[1]
    # A file that is broken keeps nobody from the machine's own agent.
    (tmp_path / "mine.toml").write_text("nonsense")
    assert select("local")[0].name == "local"


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The addresses of two agents."""
    with (
        serving(tmp_path_factory.mktemp("a")) as (_, first),
        serving(tmp_path_factory.mktemp("b")) as (_, second),
    ):
        yield [first.address, second.address]


def _fleet_of(folder: Path, *addresses: str) -> Fleet:
    return Fleet(
        path=folder / "fleet.toml",
        entries=tuple(
            FleetEntry(name=f"b{i}", address=address, tags={"a": "b"})
            for i, address in enumerate(addresses)
        ),
    )


@pytest.mark.slow
def test_of_several_the_first_free_one_is_taken(agents: list[str], tmp_path: Path) -> None:
    first, second = agents
    request = lease_request("a run")
    holder = AgentClient(RemoteAddress(first))
    told: list[str] = []
    with frozen_board() as frozen:
        fleet = _fleet_of(tmp_path, frozen, first, nobody(), second)
        assert select_one("a=b", fleet, say=told.append).name == "b1"
        assert told == ["a=b: b1, the first that is free of 4"]
        assert holder.acquire_lease(request).state is records.LeaseState.HELD
        try:
            assert select_one("a=b", fleet, say=told.append).name == "b3"
            # All are held that answer: the first of them is waited for.
            held = _fleet_of(tmp_path, frozen, first)
            assert select_one("a=b", held, say=told.append).name == "b1"
            assert told[-1] == "a=b: b1, held like all that answer of 2"
        finally:
            holder.release_lease(request.lease_id)
            holder.close()
    told.clear()
    assert select_one("b1", fleet, say=told.append).name == "b1"
    assert told == []


def test_none_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_CONTACT_WITHIN_S", 0.5)
    told: list[str] = []
    fleet = _fleet_of(tmp_path, nobody(), nobody())
    assert select_one("a=b", fleet, say=told.append).name == "b0"
    assert told == ["a=b: b0, no answer from any of 2"]


def _describe(_: Selected, agent: AgentClient) -> str:
    return agent.describe().name


def test_a_frozen_board_delays_nobody(agents: list[str], tmp_path: Path) -> None:
    with frozen_board() as frozen:
        fleet = _fleet_of(tmp_path, frozen, *agents)
        devices = [of_entry(entry, fleet) for entry in fleet.entries]
        with Asking(devices, _describe) as asking:
            heard = [asking.next_answer(20.0) for _ in range(2)]
            # The others answered while the frozen one was waited for.
            assert asking.waiting == {0}
            assert asking.next_answer(0.0) is None
        assert {one[0] for one in heard if one} == {1, 2}
        left: list[list[str]] = []
        answers = ask_all(
            devices,
            _describe,
            within_s=3.0,
            on_waiting=lambda waiting: left.append([one.name for one in waiting]),
        )
    assert answers[1:] == ["bench", "bench"]
    assert isinstance(answers[0], NoAnswerError)
    assert f"no answer within 3 s: expected the agent at {frozen}" in str(answers[0])
    assert left[0] == ["b0", "b1", "b2"]
    assert left[-1] == ["b0"]


def test_who_gives_up_leaves_no_threads(tmp_path: Path) -> None:
    with frozen_board() as frozen:
        fleet = _fleet_of(tmp_path, frozen)
        devices = [of_entry(entry, fleet) for entry in fleet.entries]
        ask_all(devices, _describe, within_s=0.5)
        deadline_s = time.monotonic() + 20.0
        while any(thread.name == "ask b0" for thread in threading.enumerate()):
            assert time.monotonic() < deadline_s
            time.sleep(0.02)


def test_a_bug_in_the_question_is_no_answer(agents: list[str], tmp_path: Path) -> None:
    fleet = _fleet_of(tmp_path, agents[0])

    def wrong(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        ask_all([of_entry(fleet.entries[0], fleet)], wrong, within_s=20.0)


def test_nobody_to_ask() -> None:
    assert ask_all([], _describe, within_s=1.0) == []


def test_facts() -> None:
    description = _description("rockchip,rk3588", "Rock, 5=B \x1b[31m!")
    assert facts_of(description) == {
        "soc": ("rk3588",),
        "machine": ("aarch64",),
        "cpu": ("Rock 5 B [31m!",),
        "cores": ("8",),
        "backend": ("fake",),
    }
    assert "soc" not in facts_of(_description(None, "x"))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Rock 5 B", "Rock-5-B"),
        ("rock5b", "rock5b-3"),
        ("local", "board"),
        ("\x1b[2J", "2J"),
        ("..", "board"),
        ("x" * 300, "x" * 50),
    ],
)
def test_a_name_near_to_what_it_calls_itself(said: str, expected: str) -> None:
    assert name_of(said, ["rock5b", "rock5b-2"]) == expected


def _description(soc: str | None, cpu: str) -> records.DeviceDescription:
    return records.DeviceDescription(
        device_id="1",
        name="x",
        hardware=records.Hardware(
            machine="aarch64",
            cpu_model=cpu,
            soc=soc,
            logical_cores=8,
            physical_cores=None,
            max_frequency_hz=None,
            memory_bytes=1,
        ),
        system=records.OperatingSystem(name="Linux", kernel="6", distribution=None, governor=None),
        fingerprint="f",
        agent_version="1",
        protocol_version=1,
        measurement_protocol_version=2,
        backends=(
            records.BackendInfo(name="fake", version="1", available=True),
            records.BackendInfo(name="tvm", version="", available=False),
        ),
        queued_jobs=0,
    )
