"""The fleet file: the boards that a person has, by name, with their addresses and tags.

Read strictly, every error with its line; `fleet_edit.py` writes it.
"""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.toml_lines import KeyPath, key_lines
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What a board may be called; never `local`, which is this machine's own agent."""

_TAG_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAG_VALUE = re.compile(r"[^\s,=][^,=]*")
_KEYS = (
    "address",
    "device_id",
    "tags",
    "facts",
    "certificate_serial",
    "certificate_not_after",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetEntry:
    """One board.

    Args:
        name: What the person calls it.
        address: HOST:PORT of its agent.
        device_id: Of the agent; a board with another id at that address is another board.
        tags: What the person says of it, e.g. `{"room": "lab"}`.
        facts: What it said of itself when it was added, e.g. `{"soc": ("rk3588",)}`. A key with
            several values has each of them.
        certificate_serial: In hexadecimal; "" for an agent without TLS.
        certificate_not_after: When its certificate ends.
    """

    name: str
    address: str
    device_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    certificate_serial: str = ""
    certificate_not_after: datetime | None = None

    @property
    def is_enrolled(self) -> bool:
        """Whether its agent has a certificate of ours, so that it is reached over TLS."""
        return bool(self.certificate_serial)

    def has(self, key: str, value: str) -> bool:
        """Whether a tag, or else a fact, of this key has the value; letter case is ignored."""
        known = (self.tags[key],) if key in self.tags else self.facts.get(key, ())
        return value.casefold() in {one.casefold() for one in known}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """The boards of one fleet file, in its order."""

    path: Path
    entries: tuple[FleetEntry, ...] = ()

    def find(self, name: str) -> FleetEntry | None:
        """Return the board of this name, or None."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def get(self, name: str) -> FleetEntry:
        """Return the board of this name.

        Raises:
            WrongInputError: If there is none.
        """
        entry = self.find(name)
        if entry is None:
            raise WrongInputError(self.unknown(name))
        return entry

    def at(self, address: str) -> FleetEntry | None:
        """Return the first board with this address, or None."""
        return next((entry for entry in self.entries if entry.address == address), None)

    def unknown(self, name: str) -> str:
        """Say in one line that there is no board of this name, and which there are."""
        names = [entry.name for entry in self.entries]
        if not names:
            return (
                f"no board {name!r}: {self.path} names none yet: "
                "add one by: boardfront device add HOST:PORT --name NAME"
            )
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        return f"no board {name!r} in {self.path}: expected one of {', '.join(names)}{meant}"


def load_fleet(path: Path) -> Fleet:
    """Read the fleet file; one that does not exist holds no boards.

    Raises:
        WrongInputError: If something in it is wrong, with its line.
    """
    return parse_fleet(read_text(path), path)


def parse_fleet(text: str, path: Path) -> Fleet:
    """Read the text of a fleet file; `path` names it in errors.

    Raises:
        WrongInputError: If something in it is wrong, with its line.
    """
    return Fleet(path=path, entries=_Reader(text, str(path)).entries())


def check_name(name: str) -> str:
    """Return the name if a board may be called so.

    Raises:
        WrongInputError: If it may not.
    """
    if name == "local" or NAME.fullmatch(name) is None:
        raise WrongInputError(
            f"board name {name!r}: expected letters, digits, '.', '_' and '-', up to 63 of them, "
            "and not 'local', which is this machine; choose one, e.g. rock5b"
        )
    return name


def parse_tag(text: str) -> tuple[str, str]:
    """Return key and value of a tag as a person writes it, e.g. `soc=rk3588`.

    Raises:
        WrongInputError: If it is none.
    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not _TAG_KEY.fullmatch(key) or not _TAG_VALUE.fullmatch(value):
        raise WrongInputError(f"tag {text!r}: expected KEY=VALUE, e.g. room=lab")
    return key, value


def read_text(path: Path) -> str:
    """Return the file's text; "" if there is none.

    Raises:
        WrongInputError: If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise WrongInputError(
            f"{path}: expected a fleet file, got nothing readable ({reason}): check --fleet, or "
            "BOARDFRONT_FLEET"
        ) from problem


class _Reader:
    """Turns the file's text into entries."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        try:
            self._document: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as problem:
            found = re.search(r"line (\d+)", str(problem))
            line = f":{found.group(1)}" if found else ""
            raise WrongInputError(
                f"{file}{line}: expected valid TOML, got a mistake: {problem}: correct it"
            ) from problem
        self._lines = key_lines(text)

    def entries(self) -> tuple[FleetEntry, ...]:
        for key in self._document:
            if key != "device":
                self._fail((key,), f"unknown key {key!r}: expected tables [device.NAME] only")
        devices = self._document.get("device", {})
        if not isinstance(devices, dict):
            self._fail(("device",), "expected tables [device.NAME], got something else")
        return tuple(self._entry(name, content) for name, content in devices.items())

    def _entry(self, name: str, content: object) -> FleetEntry:
        path: KeyPath = ("device", name)
        try:
            check_name(name)
        except WrongInputError as problem:
            self._fail(path, str(problem))
        if not isinstance(content, dict):
            self._fail(path, f"expected a table [device.{name}] with an address")
        for key in content:
            if key not in _KEYS:
                near = difflib.get_close_matches(key, _KEYS, n=1)
                meant = f"; did you mean {near[0]!r}?" if near else ""
                self._fail(
                    (*path, key), f"unknown key {key!r}: expected {', '.join(_KEYS)}{meant}"
                )
        return FleetEntry(
            name=name,
            address=self._address(path, content),
            device_id=self._string((*path, "device_id"), content.get("device_id", "")),
            tags={
                key: self._tag((*path, "tags", key), key, value)
                for key, value in self._table((*path, "tags"), content.get("tags", {})).items()
            },
            facts={
                key: self._values((*path, "facts", key), value)
                for key, value in self._table((*path, "facts"), content.get("facts", {})).items()
            },
            certificate_serial=self._string(
                (*path, "certificate_serial"), content.get("certificate_serial", "")
            ),
            certificate_not_after=self._instant(
                (*path, "certificate_not_after"), content.get("certificate_not_after")
            ),
        )

    def _address(self, path: KeyPath, content: dict[str, Any]) -> str:
        if "address" not in content:
            self._fail(
                path, "missing key 'address': add one, e.g. address = \"192.168.1.20:50051\""
            )
        address = self._string((*path, "address"), content["address"])
        if not is_address(address):
            self._fail(
                (*path, "address"),
                f"expected HOST:PORT, e.g. 192.168.1.20:50051, got {address!r}: correct it",
            )
        return address

    def _tag(self, path: KeyPath, key: str, value: object) -> str:
        text = self._string(path, value)
        try:
            return parse_tag(f"{key}={text}")[1]
        except WrongInputError as problem:
            self._fail(path, str(problem))

    def _table(self, path: KeyPath, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._fail(path, f'expected a table, e.g. {path[-1]} = {{ room = "lab" }}')
        return value

    def _values(self, path: KeyPath, value: object) -> tuple[str, ...]:
        if isinstance(value, list):
            return tuple(self._string(path, one) for one in value)
        return (self._string(path, value),)

    def _string(self, path: KeyPath, value: object) -> str:
        if not isinstance(value, str):
            self._fail(path, f"expected text in quotes for {path[-1]!r}, got {value!r}")
        return value

    def _instant(self, path: KeyPath, value: object) -> datetime | None:
        if value is None:
            return None
        if not isinstance(value, datetime) or value.tzinfo is None:
            self._fail(path, f"expected a date with time and zone, got {value!r}")
        return value

    def _fail(self, path: KeyPath, text: str) -> NoReturn:
        at = path
        while at and at not in self._lines:
            at = at[:-1]
        raise WrongInputError(f"{self._file}:{self._lines.get(at, 1)}: {text}")


def is_address(text: str) -> bool:
    """Whether a text is HOST:PORT."""
    try:
        RemoteAddress(text)
    except WrongInputError:
        return False
    return True
