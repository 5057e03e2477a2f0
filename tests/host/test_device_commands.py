"""`boardfront device ...` and `devices` against real agents: enrolled, plain, and frozen ones."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent.harness import serving
from tests.device_agent.onnx_files import conv_net
from tests.device_agent.secured import enrolling
from tests.host.fleet.frozen import frozen_board, nobody
from tests.host.fleet.leveled import leveled_agent
from tests.host.searching import Place

from boardfront.host.commands.devices import _telling
from boardfront.host.fleet import client as agent_client
from boardfront.host.fleet import enrolment
from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.fleet_edit import put
from boardfront.host.fleet.fleet_file import Fleet, FleetEntry, load_fleet
from boardfront.host.fleet.lease import lease_request

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.timeout(120)

QUICK = ("--duration", "0.1", "--precision", "0.2", "--no-sentinel", "--backend", "fake")


@dataclass(frozen=True)
class Owned:
    """A fleet of one enrolled board, and the host that owns it."""

    fleet: Path
    address: str
    added: str

    def load(self) -> Fleet:
        return load_fleet(self.fleet)


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owned]:
    """Enrol a board as its owner does, by the two commands."""
    folder = tmp_path_factory.mktemp("owned")
    with enrolling(folder / "board", "--root", str(other_machine(folder / "root"))) as process:
        done = subprocess_of(Place(folder), process.token, process.address)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        yield Owned(fleet=folder / "fleet.toml", address=process.address, added=done.stdout)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an agent without TLS."""
    folder = tmp_path_factory.mktemp("plain")
    with serving(folder / "agent", root=other_machine(folder / "root")) as (_, wire):
        yield wire.address


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for boards that are away; a person waits longer."""
    monkeypatch.setattr(agent_client, "_FIRST_CONTACT_WITHIN_S", 1.5)
    monkeypatch.setattr(enrolment, "_CALL_WITHIN_S", 3.0)


def subprocess_of(place: Place, token: str, address: str) -> subprocess.CompletedProcess[str]:
    return place.call("device", "add", address, "--token", token, "--tag", "room=lab")


def other_machine(root: Path) -> Path:
    """Return this machine's files with another identity, which is the folder's name."""
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "machine-id").write_text(str(root))
    for name in ("proc", "sys"):
        (root / name).symlink_to(f"/{name}")
    return root


def refused(answer: tuple[int, str, str], *, code: int = 2) -> str:
    """Return the one line on stderr."""
    got, out, told = answer
    assert (got, out) == (code, ""), told
    (line,) = told.splitlines()
    assert line.startswith("boardfront: ")
    return line


def test_a_board_in_two_lines(owned: Owned) -> None:
    assert f"rock5b ({owned.address}) is in {owned.fleet}" in owned.added
    assert "certificate  until 20" in owned.added
    assert "boardfront measure net.onnx --device rock5b" in owned.added
    entry = owned.load().get("rock5b")
    assert entry.is_enrolled
    assert entry.certificate_not_after is not None
    assert entry.tags == {"room": "lab"}
    assert {"fake", "onnxruntime"} <= set(entry.facts["backend"])


def test_measure_by_name_over_tls(boardfront: Command, owned: Owned, place: Place) -> None:
    (place.folder / "net.onnx").write_bytes(conv_net())
    code, out, told = boardfront(
        *("measure", "net.onnx", "--device", "rock5b", "--json", *QUICK),
        *("--fleet", str(owned.fleet)),
    )
    assert (code, told) == (0, "")
    assert json.loads(out)["device"]["id"] == owned.load().get("rock5b").device_id


@pytest.mark.usefixtures("impatient")
def test_a_plain_connection_is_refused_with_a_hint(boardfront: Command, owned: Owned) -> None:
    answer = boardfront("device", "add", owned.address, "--name", "again")
    assert "asks for a certificate" in refused(answer, code=1)


def test_an_enrolled_board_moves(boardfront: Command, owned: Owned) -> None:
    fleet = ("--fleet", str(owned.fleet))
    port = owned.address.rpartition(":")[2]
    before = owned.load().get("rock5b")
    try:
        code, _, told = boardfront(
            "device", "add", f"localhost:{port}", "--name", "rock5b", *fleet
        )
        assert (code, told) == (0, "")
        assert owned.load().get("rock5b") == replace(before, address=f"localhost:{port}")
        assert boardfront("devices", "--device", "rock5b", *fleet)[0] == 0
    finally:
        put(owned.fleet, before)


@pytest.mark.usefixtures("impatient")
def test_another_board_does_not_come_in_its_place(
    boardfront: Command, owned: Owned, plain: str
) -> None:
    before = owned.load()
    line = refused(
        boardfront("device", "add", plain, "--name", "rock5b", "--fleet", str(owned.fleet)), code=1
    )
    assert f"the agent at {plain} speaks without certificates" in line
    assert owned.load() == before


def test_add_list_remove(boardfront: Command, plain: str, place: Place) -> None:
    code, out, told = boardfront(
        *("device", "add", plain, "--name", "bench1", "--tag", "room=lab", "--tag", "soc=mine"),
        "--json",
    )
    assert (code, told) == (0, "")
    added = json.loads(out)
    assert added["name"] == "bench1"
    assert added["certificate_serial"] is None
    assert added["tags"] == {"room": "lab", "soc": "mine"}
    assert added["facts"]["machine"]
    listed = json.loads(boardfront("device", "list", "--json")[1])
    assert listed == {"fleet": str(place.fleet), "devices": [added]}
    text = boardfront("device", "list")[1]
    for word in ("bench1", plain, "room=lab,soc=mine", "backend=fake"):
        assert word in text
    # The same board again: new tags, and no second entry.
    assert boardfront("device", "add", plain, "--tag", "cooler=fan")[0] == 0
    (entry,) = load_fleet(place.fleet).entries
    assert entry.name == "bench1"
    assert entry.tags == {"room": "lab", "soc": "mine", "cooler": "fan"}
    code, out, told = boardfront("device", "remove", "bench1")
    assert (code, told) == (0, "")
    assert "bench1" in out
    code, out, told = boardfront("device", "list")
    assert (code, out) == (0, "")
    assert "no boards in" in told


def test_one_board_has_one_name(boardfront: Command, plain: str, place: Place) -> None:
    assert boardfront("device", "add", plain)[0] == 0
    (entry,) = load_fleet(place.fleet).entries
    assert entry.name == "bench"
    line = refused(boardfront("device", "add", plain, "--name", "other"))
    assert f"the board at {plain} is in {place.fleet} as 'bench'" in line
    assert boardfront("device", "add", plain, "--name", "other", "--replace")[0] == 0
    assert [one.name for one in load_fleet(place.fleet).entries] == ["other"]
    put(place.fleet, FleetEntry(name="taken", address="10.0.0.1:1", device_id="another"))
    line = refused(boardfront("device", "add", plain, "--name", "taken"))
    assert "'taken' is another board in" in line


def test_an_enrolled_board_does_not_become_plain_by_mistake(
    boardfront: Command, plain: str, place: Place
) -> None:
    assert boardfront("device", "add", plain, "--name", "x")[0] == 0
    (entry,) = load_fleet(place.fleet).entries
    put(place.fleet, replace(entry, certificate_serial="5f"))
    assert "enrolled, and this agent speaks without" in refused(boardfront("device", "add", plain))
    assert load_fleet(place.fleet).get("x").is_enrolled


def test_devices_shows_who_holds_them(boardfront: Command, plain: str) -> None:
    assert boardfront("device", "add", plain, "--name", "bench1")[0] == 0
    request, next_one = lease_request("run spos-3"), lease_request("the next")
    with contextlib.closing(AgentClient(RemoteAddress(plain))) as client:
        client.acquire_lease(request)
        client.acquire_lease(next_one)
        try:
            code, out, told = boardfront("devices", "--device", "bench1")
            content = json.loads(boardfront("devices", "--device", "bench1", "--json")[1])
            shown = boardfront("device", "show", "bench1")[1]
        finally:
            client.release_lease(next_one.lease_id)
            client.release_lease(request.lease_id)
    assert (code, told) == (0, "")
    headings, row = (line.split("\t") for line in out.splitlines())
    cells = dict(zip(headings, row, strict=True))
    assert (cells["device"], cells["state"], cells["waiting"]) == ("bench1", "held", "1")
    assert cells["held by"] == request.holder
    assert cells["until"].startswith("in ")
    assert content[0]["lease"]["holder"]["name"] == request.holder
    assert len(content[0]["lease"]["waiting"]) == 1
    assert f"state        held by {request.holder}" in shown
    assert "waiting 1" in shown


def test_devices_with_one_that_is_frozen(plain: str, place: Place) -> None:
    """All of the fleet file and this machine itself, as the command is without options."""
    with frozen_board() as frozen:
        put(place.fleet, FleetEntry(name="frozen", address=frozen))
        put(place.fleet, FleetEntry(name="gone", address=nobody()))
        put(place.fleet, FleetEntry(name="bench1", address=plain))
        done = place.call("devices")
        as_json = place.call("devices", "--json", "--device", "frozen", "--device", "bench1")
    assert done.returncode == 1
    rows = [line.split("\t")[:2] for line in done.stdout.splitlines()[1:]]
    assert rows == [["local", "free"], ["frozen", "away"], ["gone", "away"], ["bench1", "free"]]
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"boardfront: frozen: no agent answers at {frozen}")
    away, good = json.loads(as_json.stdout)
    assert (away["device"], away["state"], "error" in away) == ("frozen", "away", True)
    assert (good["device"], good["state"], good["name"]) == ("bench1", "free", "bench")


def test_a_terminal_shows_no_empty_columns() -> None:
    headings, rows = _telling(
        ("device", "held by", "queue", "waiting"),
        [("a", "", "0", "0"), ("b", "", "1", "")],
    )
    assert headings == ["device", "queue"]
    assert rows == [("a", "0"), ("b", "1")]
    assert _telling(("device",), []) == ([], [])


@pytest.mark.parametrize("command", ["measure", "compare"])
def test_of_tags_the_first_free_board_is_taken(
    boardfront: Command, plain: str, place: Place, command: str
) -> None:
    (place.folder / "net.onnx").write_bytes(conv_net())
    networks = ("net.onnx",) if command == "measure" else ("net.onnx", "net.onnx")
    quick = QUICK if command == "measure" else ("--duration", "0.1", "--backend", "fake")
    with frozen_board() as frozen:
        put(place.fleet, FleetEntry(name="frozen", address=frozen, tags={"room": "lab"}))
        put(place.fleet, FleetEntry(name="bench1", address=plain, tags={"room": "lab"}))
        code, out, told = boardfront(command, *networks, "--device", "room=lab", *quick)
    assert code == 0, told
    assert told == "note: room=lab: bench1, the first that is free of 2\n"
    assert "net.onnx" in out


def test_verify_takes_names(boardfront: Command, plain: str, place: Place) -> None:
    put(place.fleet, FleetEntry(name="bench1", address=plain))
    line = refused(boardfront("device", "verify", "bench1"), code=1)
    assert "nothing to verify" in line
    assert "no good measurement of bench that can be taken again" in line


def test_show(boardfront: Command, owned: Owned) -> None:
    code, out, told = boardfront("device", "show", "rock5b", "--fleet", str(owned.fleet))
    assert (code, told) == (0, "")
    entry = owned.load().get("rock5b")
    for words in ("rock5b\n", owned.address, entry.device_id, "room=lab", "state        free"):
        assert words in out
    assert f"certificate  until {entry.certificate_not_after:%Y-%m-%d}" in out
    assert ", admin, until 20" in out
    content = json.loads(
        boardfront("device", "show", "rock5b", "--fleet", str(owned.fleet), "--json")[1]
    )
    assert content["entry"]["certificate_serial"] == entry.certificate_serial
    assert content["own_certificate"]["role"] == "admin"
    assert content["description"]["device_id"] == entry.device_id
    assert content["lease"] == {"holder": None, "waiting": []}


@pytest.mark.usefixtures("impatient")
def test_show_of_a_board_that_is_away(boardfront: Command, place: Place) -> None:
    put(place.fleet, FleetEntry(name="gone", address=nobody(), tags={"room": "lab"}))
    code, out, told = boardfront("device", "show", "gone")
    assert code == 1
    assert "state        away" in out
    assert "room=lab" in out
    assert told.startswith("boardfront: gone: no agent answers at ")


def _findings(out: str) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in json.loads(out)["findings"]}


def test_doctor(boardfront: Command, owned: Owned) -> None:
    fleet = ("--fleet", str(owned.fleet))
    code, out, told = boardfront("device", "doctor", "rock5b", *fleet, "--no-sentinel", "--json")
    assert told == ""
    found = _findings(out)
    for name in (
        *("reachable", "identity", "versions", "certificate", "your certificate", "clock"),
        *("backend onnxruntime", "default cores", "lease"),
    ):
        assert found[name]["severity"] == "good", found[name]
    # What this machine is like may be a warning, or heat a problem: each with its remedy.
    for name in ("governor", "temperature", "load"):
        assert (found[name]["severity"] == "good") == (found[name]["remedy"] == "")
    assert code == int(json.loads(out)["worst"] == "problem")
    text = boardfront("device", "doctor", "rock5b", *fleet, "--no-sentinel")[1]
    assert text.splitlines()[-1].startswith("problems: ")
    assert "ok   certificate" in text


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_doctor_of_boards_that_are_not_well(boardfront: Command, plain: str, place: Place) -> None:
    put(place.fleet, FleetEntry(name="swapped", address=plain, device_id="another"))
    with frozen_board() as frozen:
        put(place.fleet, FleetEntry(name="frozen", address=frozen))
        code, out, told = boardfront("device", "doctor", "frozen", "--json")
    assert (code, told) == (1, "")
    (found,) = json.loads(out)["findings"]
    assert (found["name"], found["severity"]) == ("reachable", "problem")
    assert frozen in found["evidence"]
    assert found["remedy"]
    code, out, _ = boardfront("device", "doctor", "swapped", "--no-sentinel", "--json")
    assert code == 1
    assert _findings(out)["identity"]["finding"] == "another board than swapped"


@pytest.mark.slow
def test_doctor_times_the_sentinel(
    boardfront: Command, place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (place.folder / "net.onnx").write_bytes(conv_net())

    def sentinel() -> tuple[int, dict[str, Any]]:
        code, out, _ = boardfront("device", "doctor", "bench1", "--backend", "level", "--json")
        return code, _findings(out)["sentinel"]

    with leveled_agent(tmp_path_factory.mktemp("leveled")) as device:
        put(place.fleet, FleetEntry(name="bench1", address=device.wire.address))
        assert sentinel()[1]["finding"] == "timed for the first time from here"
        code, _, told = boardfront(
            *("measure", "net.onnx", "--device", "bench1", "--backend", "level"),
            *("--duration", "0.1", "--precision", "0.3"),
        )
        assert (code, told) == (0, "")
        before = place.store.read_bytes()
        assert sentinel()[1]["finding"] == "as before"
        device.set(1.05)
        code, found = sentinel()
        assert code == 1
        assert (found["severity"], "moved by more than 2%" in found["finding"]) == (
            "problem",
            True,
        )
        assert "+5.0% against before" in found["evidence"]
        # It looks, and leaves the store to those that measure.
        assert place.store.read_bytes() == before
        with contextlib.closing(AgentClient(RemoteAddress(device.wire.address))) as client:
            assert client.show_lease().holder is None
            client.acquire_lease(lease_request("a run"))
            assert sentinel()[1]["finding"] == "not timed: somebody has the board"
        device.set(1.0, noise=0.5)


def test_rotate(boardfront: Command, owned: Owned) -> None:
    fleet = ("--fleet", str(owned.fleet))
    before = owned.load().get("rock5b")
    owned.fleet.write_text(owned.fleet.read_text() + "# mine\n")
    code, out, told = boardfront("device", "rotate", "rock5b", *fleet, "--json")
    assert (code, told) == (0, "")
    (renewed,) = json.loads(out)["devices"]
    after = owned.load().get("rock5b")
    assert after.certificate_serial == renewed["serial"] != before.certificate_serial
    assert after.tags == before.tags
    assert "# mine" in owned.fleet.read_text()
    code, out, _ = boardfront("device", "rotate", "--own", *fleet)
    assert code == 0
    assert "(this host) until 20" in out
    assert boardfront("devices", "--device", "rock5b", *fleet)[0] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_several_people(boardfront: Command, owned: Owned, place: Place) -> None:
    fleet = ("--fleet", str(owned.fleet))
    invitation = str(place.folder / "anna.invitation")
    put(owned.fleet, FleetEntry(name="tunnel", address="127.0.0.1:1"))
    code, out, told = boardfront("device", "invite", "anna@ws", "-o", invitation, *fleet)
    assert (code, told) == (0, "")
    assert f"{invitation} lets anna@ws use rock5b until 20" in out
    assert Path(invitation).stat().st_mode & 0o777 == 0o600

    # Anna, on a host of her own, who has a board already.
    put(place.fleet, FleetEntry(name="hers", address="127.0.0.1:2"))
    code, out, told = boardfront("device", "join", invitation)
    assert (code, told) == (0, "")
    assert "you are anna@ws until 20" in out
    hers = load_fleet(place.fleet)
    # The owner's tunnel leads nowhere from here.
    assert [entry.name for entry in hers.entries] == ["hers", "rock5b"]
    assert hers.get("rock5b") == owned.load().get("rock5b")
    code, out, told = boardfront("devices", "--device", "rock5b")
    assert (code, told) == (0, "")
    assert "rock5b\tfree" in out
    line = refused(boardfront("device", "rotate", "rock5b"))
    assert "only the owner's host can do this" in line

    # A board that hangs is not told, and keeps nobody else from being told.
    with frozen_board() as frozen:
        asleep = FleetEntry(name="asleep", address=frozen, device_id="ab", certificate_serial="1")
        put(owned.fleet, asleep)
        code, out, told = boardfront("device", "revoke", "anna@ws", *fleet, "--json")
        assert boardfront("device", "remove", "asleep", *fleet)[0] == 0
    content = json.loads(out)
    assert (code, content["told"], list(content["not_told"])) == (1, ["rock5b"], ["asleep"])
    assert "tell them later: boardfront device revoke anna@ws" in told
    code, out, told = boardfront("devices", "--device", "rock5b")
    assert code == 1
    assert "rock5b\trefused" in out
    assert "of anna@ws was revoked" in told
    assert boardfront("devices", "--device", "rock5b", *fleet)[0] == 0
    assert boardfront("device", "remove", "tunnel", *fleet)[0] == 0


def test_an_invitation_meets_a_file_with_the_same_names(
    boardfront: Command, owned: Owned, place: Place
) -> None:
    invitation = str(place.folder / "ben.invitation")
    fleet = ("--fleet", str(owned.fleet))
    assert boardfront("device", "invite", "ben", "-o", invitation, *fleet)[0] == 0
    theirs = owned.load().get("rock5b")
    # The same board under another name: it keeps that, and its tags.
    mine = FleetEntry(
        name="rocky", address="10.9.9.9:1", device_id=theirs.device_id, tags={"room": "mine"}
    )
    put(place.fleet, mine)
    assert boardfront("device", "join", invitation)[0] == 0
    (entry,) = load_fleet(place.fleet).entries
    assert (entry.name, entry.address, entry.tags) == (
        "rocky",
        theirs.address,
        {"room": "mine"},
    )
    # Another board of the same name stays what it is.
    put(place.fleet, FleetEntry(name="rocky", address="10.9.9.9:1", device_id="another"))
    put(place.fleet, FleetEntry(name="rock5b", address="10.9.9.8:1", device_id="third"))
    code, _, told = boardfront("device", "join", invitation)
    assert code == 0
    assert told.startswith("note: 'rock5b' is another board in your file and stays")
    assert load_fleet(place.fleet).get("rock5b").address == "10.9.9.8:1"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("add", "there"), "device 'there': expected 'local' or HOST:PORT"),
        (("add", "192.168.1.20:50051"), "no --token for 192.168.1.20:50051: expected the one"),
        (("add", "127.0.0.1:1", "--tag", "room"), "tag 'room': expected KEY=VALUE"),
        (("add", "127.0.0.1:1", "--name", "local"), "board name 'local': expected letters"),
        (("add", "127.0.0.1:1", "--token", "XYZ"), "token"),
        (("show", "there"), "device 'there': expected 'local' or HOST:PORT"),
        (("show", "room=lab"), "no board in"),
        (("remove", "there"), "no board 'there'"),
        (("rotate",), "no board was named: expected boardfront device rotate NAME"),
        (("rotate", "there"), "no board 'there'"),
        (("rotate", "--own"), "there is no authority in"),
        (("revoke", "anna"), "there is no authority in"),
        (("invite", "anna", "-o", "x"), "there is no authority in"),
        (("invite", "anna"), "--output"),
        (("join", "gone"), "gone"),
        (("doctor", "there"), "device 'there': expected"),
        (("discover", "--within", "0"), "--within"),
    ],
)
def test_wrong_input(boardfront: Command, arguments: tuple[str, ...], expected: str) -> None:
    assert expected in refused(boardfront("device", *arguments))


def test_several_boards_where_one_is_meant(boardfront: Command, place: Place) -> None:
    for name in ("a", "b"):
        put(place.fleet, FleetEntry(name=name, address="127.0.0.1:1", tags={"room": "lab"}))
    line = refused(boardfront("device", "doctor", "room=lab"))
    assert "'room=lab' means several boards: expected one of a, b" in line
    line = refused(boardfront("device", "rotate", "a"))
    assert "'a' has no certificate to renew" in line


def test_a_broken_fleet_file_is_told_with_its_line(boardfront: Command, place: Place) -> None:
    place.fleet.write_text('[device.a]\naddres = "x"\n')
    for arguments in (("devices",), ("device", "list"), ("measure", "x.onnx", "--device", "a")):
        (place.folder / "x.onnx").write_bytes(conv_net())
        assert f"{place.fleet}:2: unknown key 'addres'" in refused(boardfront(*arguments))


@pytest.mark.usefixtures("impatient")
def test_nobody_listens(boardfront: Command) -> None:
    line = refused(boardfront("device", "add", nobody(), "--name", "x"), code=1)
    assert "no agent answers at" in line


@pytest.mark.parametrize(
    "command",
    [
        *("add", "list", "show", "remove", "discover", "verify", "doctor", "rotate", "revoke"),
        *("invite", "join"),
    ],
)
def test_help_has_an_example(boardfront: Command, command: str) -> None:
    code, out, told = boardfront("device", command, "--help")
    assert (code, told) == (0, "")
    assert f"Example: boardfront device {command}" in " ".join(out.split())
