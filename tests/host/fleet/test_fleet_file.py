"""The fleet file: read strictly, written so that nothing of the person's is lost."""

from __future__ import annotations

import concurrent.futures
import random
import stat
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from boardfront.host.fleet import fleet_edit
from boardfront.host.fleet.fleet_edit import check_writable, put, remove
from boardfront.host.fleet.fleet_file import FleetEntry, load_fleet, parse_tag
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
# My boards.

[device.rock5b]
address = "192.168.1.20:50051"  # behind the switch
device_id = "0123456789abcdef"
tags = { room = "lab" }
facts = { soc = "rk3588", backend = ["onnxruntime", "rknn"] }
certificate_serial = "5f"
certificate_not_after = 2029-02-25T10:00:00Z

# The old one; it is slow.
[device."pi.4"]
address = "[fe80::1%eth0]:50051"
"""

ROCK = FleetEntry(
    name="rock5b",
    address="192.168.1.20:50051",
    device_id="0123456789abcdef",
    tags={"room": "lab"},
    facts={"soc": ("rk3588",), "backend": ("onnxruntime", "rknn")},
    certificate_serial="5f",
    certificate_not_after=datetime(2029, 2, 25, 10, tzinfo=timezone.utc),
)
PI = FleetEntry(name="pi.4", address="[fe80::1%eth0]:50051")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(FILE)
    return path


def test_read(file: Path) -> None:
    fleet = load_fleet(file)
    assert fleet.entries == (ROCK, PI)
    assert fleet.get("pi.4") == PI
    assert fleet.at("192.168.1.20:50051") == ROCK
    assert fleet.find("gone") is None
    assert (ROCK.is_enrolled, PI.is_enrolled) == (True, False)


def test_no_file_holds_no_boards(tmp_path: Path) -> None:
    fleet = load_fleet(tmp_path / "none" / "fleet.toml")
    assert fleet.entries == ()
    assert not (tmp_path / "none").exists()
    with pytest.raises(WrongInputError, match=r"no board 'x'.*boardfront device add"):
        fleet.get("x")


def test_an_unknown_board_names_the_known(file: Path) -> None:
    with pytest.raises(WrongInputError, match=r"rock5b, pi\.4; did you mean 'rock5b'\?"):
        load_fleet(file).get("rock5")


def test_tags_before_facts() -> None:
    entry = replace(ROCK, tags={"soc": "mine"})
    assert entry.has("soc", "mine")
    assert not entry.has("soc", "rk3588")
    assert ROCK.has("soc", "RK3588")
    assert ROCK.has("backend", "onnxruntime")
    assert ROCK.has("backend", "rknn")
    assert not ROCK.has("backend", "tvm")
    assert not ROCK.has("colour", "red")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("address = ", "adress = ", ":4: unknown key 'adress': expected address, .*'address'?"),
        ('address = "192.168.1.20:50051"  # behind the switch\n', "", ":3: missing key 'address'"),
        (".20:50051", ".20", ":4: expected HOST:PORT.*got '192.168.1.20'"),
        (".20:50051", ".20:99999", ":4: expected HOST:PORT"),
        ('"lab"', '"a,b"', ":6: tag 'room=a,b': expected KEY=VALUE"),
        ('{ room = "lab" }', '"lab"', ":6: expected a table"),
        ('"rk3588"', "3588", ":7: expected text in quotes"),
        ('"rknn"]', "1]", ":7: expected text in quotes"),
        ("2029-02-25T10:00:00Z", "2029-02-25", ":9: expected a date with time and zone"),
        ("2029-02-25T10:00:00Z", "2029-02-25T10:00:00", ":9: expected a date with time and zone"),
        ('device."pi.4"', "device.local", ":12: board name 'local': expected letters"),
        ('device."pi.4"', 'device."a b"', ":12: board name 'a b': expected letters"),
        ('device."pi.4"', "board.pi", ":12: unknown key 'board': expected tables"),
        ('device."pi.4"', "device.rock5b", "expected valid TOML, got a mistake"),
        ("[device.rock5b]", "[device.rock5b", ":3: expected valid TOML"),
        ('device_id = "0123456789abcdef"', "device_id = 1", ":5: expected text in quotes"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    file: Path, old: str, new: str, expected: str
) -> None:
    assert old in FILE
    text = FILE.replace(old, new, 1)
    file.write_text(text)
    with pytest.raises(WrongInputError, match=expected) as caught:
        load_fleet(file)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value).splitlines()) == 1
    # A file that cannot be read is not written either.
    with pytest.raises(WrongInputError):
        put(file, PI)
    assert file.read_text() == text


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["bytes", "folder"])
def test_nothing_readable(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "fleet.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(WrongInputError, match="got nothing readable"):
        load_fleet(path)


def test_a_change_keeps_what_the_person_wrote(file: Path) -> None:
    moved = replace(ROCK, address="10.0.0.7:50051", tags={"room": "attic", "cooler": "fan"})
    put(file, moved)
    text = file.read_text()
    assert load_fleet(file).entries == (moved, PI)
    kept = set(FILE.splitlines()) - {FILE.splitlines()[3], FILE.splitlines()[5]}
    assert kept <= set(text.splitlines())
    # Nothing changes: not a byte does.
    put(file, moved)
    assert file.read_text() == text


def test_a_board_is_added_and_removed(file: Path) -> None:
    new = FleetEntry(name="jetson", address="jetson.lan:50051", tags={"gpu": "orin"})
    put(file, new)
    assert load_fleet(file).entries == (ROCK, PI, new)
    assert file.read_text().startswith(FILE.rstrip())
    assert remove(file, "rock5b") == ROCK
    assert load_fleet(file).entries == (PI, new)
    assert '# The old one; it is slow.\n[device."pi.4"]\n' in file.read_text()
    remove(file, "jetson")
    remove(file, "pi.4")
    assert file.read_text().strip() == "# My boards.\n\n# The old one; it is slow."
    assert load_fleet(file).entries == ()
    with pytest.raises(WrongInputError, match="no board 'rock5b'"):
        remove(file, "rock5b")


@pytest.mark.parametrize(
    "text",
    [
        '[device]\na = {address = "h:1"}\nb = {address = "h:2"}\n',
        '[device.a]\naddress = "h:1"\n[device.a.tags]\nx = "y"\n[device.b]\naddress = "h:2"\n',
        'device.a.address = "h:1"\ndevice.b.address = "h:2"\n',
        '[device.b]\naddress = "h:2"\n\n[device.a]\naddress = """\\\n  h:1"""\n# last\n',
        '[device.a]\naddress = "h:1"\n[device.b]\naddress = "h:2"\n[device.a.tags]\nx = "y"\n',
    ],
)
def test_files_that_people_write_otherwise(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    a, b = sorted(load_fleet(path).entries, key=lambda entry: entry.name)
    put(path, replace(a, device_id="12"))
    assert load_fleet(path).get("a") == replace(a, device_id="12")
    assert remove(path, "a").address == "h:1"
    assert load_fleet(path).entries == (b,)


def test_what_ends_is_taken_out(file: Path) -> None:
    bare = FleetEntry(name="rock5b", address=ROCK.address)
    put(file, bare)
    assert load_fleet(file).get("rock5b") == bare
    assert "certificate" not in file.read_text()


def test_a_new_file_is_private_and_an_old_one_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "settings" / "boardfront" / "fleet.toml"
    put(path, PI)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    put(path, ROCK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert sorted(one.name for one in path.parent.iterdir()) == [".fleet.toml.lock", "fleet.toml"]


def test_a_link_stays_a_link(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "links" / "fleet.toml"
    link.parent.mkdir()
    link.symlink_to(file)
    put(link, replace(PI, tags={"a": "b"}))
    assert link.is_symlink()
    assert load_fleet(file).get("pi.4").tags == {"a": "b"}


def test_two_at_once_lose_nothing(file: Path) -> None:
    new = [FleetEntry(name=f"board{i}", address=f"10.0.0.{i}:50051") for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda entry: put(file, entry), new))
    entries = load_fleet(file).entries
    assert sorted(entry.name for entry in entries) == sorted(
        ["rock5b", "pi.4", *(entry.name for entry in new)]
    )


def test_who_holds_the_file_is_not_waited_for_forever(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_edit, "_LOCKED_WITHIN_S", 0.1)
    with fleet_edit._locked(file), pytest.raises(BoardfrontError, match=r"has held .* for 0\.1 s"):
        put(file, PI)
    assert file.read_text() == FILE


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "fleet.toml"
    with pytest.raises(BoardfrontError, match="expected a fleet file that can be written"):
        put(path, PI)
    with pytest.raises(BoardfrontError, match="expected a fleet file that can be written"):
        check_writable(path)


def test_random_entries_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    generator = random.Random(5)  # noqa: S311 - a seeded test
    letters = "abcXYZ09-_. äß'\"\\#[]{}\t"

    def word() -> str:
        text = "".join(generator.choice(letters) for _ in range(generator.randint(1, 12)))
        return text.strip() or "x"

    expected: dict[str, FleetEntry] = {}
    for _ in range(120):
        name = f"b{generator.randint(0, 9)}.x"
        if name in expected and generator.random() < 0.3:
            assert remove(path, name) == expected.pop(name)
            continue
        enrolled = generator.random() < 0.5
        entry = FleetEntry(
            name=name,
            address=f"h{generator.randint(0, 9)}:{generator.randint(1, 65535)}",
            device_id=generator.choice(["", "ab12"]),
            tags={f"k{i}": word() for i in range(generator.randint(0, 3))},
            facts={f"f{i}": tuple(word() for _ in range(i + 1)) for i in range(2)},
            certificate_serial="5f" if enrolled else "",
            certificate_not_after=datetime(2030, 1, 1, tzinfo=timezone.utc) if enrolled else None,
        )
        put(path, entry)
        expected[name] = entry
        assert {one.name: one for one in load_fleet(path).entries} == expected


@pytest.mark.parametrize("text", ["lab", "=lab", "room=", "room = ", "a b=c", "room=a=b", ""])
def test_no_tag(text: str) -> None:
    with pytest.raises(WrongInputError, match="expected KEY=VALUE"):
        parse_tag(text)


def test_a_tag() -> None:
    assert parse_tag(" room = big lab ") == ("room", "big lab")
