"""Change the fleet file: atomically, one process at a time, the person's comments kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from datetime import timezone
from typing import TYPE_CHECKING, Any

from boardfront.host.fleet.fleet_file import (
    FleetEntry,
    check_name,
    parse_fleet,
    read_text,
)
from boardfront.host.toml_lines import key_lines
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tomlkit.items import Table

_LOCKED_WITHIN_S = 10.0
_HEAD = "# The boards of boardfront; see `boardfront device --help`. Edit it as you like.\n"


def put(path: Path, entry: FleetEntry) -> None:
    """Add a board, or change the one of its name; what the person wrote around it stays.

    Raises:
        WrongInputError: If the file as it is cannot be read, or the entry is none.
        BoardfrontError: If the file cannot be written.
    """
    check_name(entry.name)
    _edit(path, lambda text: _with(text, entry))


def remove(path: Path, name: str) -> FleetEntry:
    """Take a board out of the file and return it; comments behind it stay: they are the next's.

    Raises:
        WrongInputError: If there is none of this name, or the file cannot be read.
        BoardfrontError: If the file cannot be written.
    """
    found: list[FleetEntry] = []

    def without(text: str) -> str:
        found.append(parse_fleet(text, path).get(name))
        return _without(text, name)

    _edit(path, without)
    return found[0]


def check_writable(path: Path) -> None:
    """Find out whether the file can be read and changed; nothing is.

    Raises:
        WrongInputError: If the file as it is cannot be read.
        BoardfrontError: If it cannot be written.
    """
    _make_folder(path)
    path = path.resolve()
    with _locked(path):
        parse_fleet(read_text(path), path)
        try:
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as problem:
            raise _unwritable(path, problem) from problem


def _edit(path: Path, change: Callable[[str], str]) -> None:
    """Put the changed text in the file's place, one process at a time."""
    _make_folder(path)
    # A link, as people keep their settings, stays a link.
    path = path.resolve()
    with _locked(path):
        text = read_text(path)
        parse_fleet(text, path)
        changed = change(text or _HEAD)
        # Never leave a file that the next command refuses.
        parse_fleet(changed, path)
        _replace(path, changed)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as problem:
        raise _unwritable(path, problem) from problem


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as problem:
        raise _unwritable(path, problem) from problem
    try:
        _wait_for(descriptor, lock)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, lock: Path) -> None:
    deadline_s = time.monotonic() + _LOCKED_WITHIN_S
    while not _take(descriptor):
        if time.monotonic() > deadline_s:
            raise BoardfrontError(
                f"another process has held {lock} for {_LOCKED_WITHIN_S:g} s: expected it to "
                "change the fleet file and go; look for a boardfront that hangs"
            )
        time.sleep(0.02)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _replace(path: Path, text: str) -> None:
    """Put the text in the file's place at once: a reader sees the old one or the new one."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    try:
        descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, mode)  # noqa: PTH101 - a name, not a Path
        os.replace(part, path)  # noqa: PTH105
    except OSError as problem:
        raise _unwritable(path, problem) from problem


def _unwritable(path: Path, problem: OSError) -> BoardfrontError:
    return BoardfrontError(
        f"{path}: expected a fleet file that can be written, got {problem.strerror}: "
        "check its folder, or name another with --fleet"
    )


def _with(text: str, entry: FleetEntry) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    devices: Any = document.get("device")
    if devices is None:
        # Without a line of its own: only [device.NAME] stands in the file.
        devices = document["device"] = tomlkit.table(is_super_table=True)
    if entry.name not in devices:
        devices.append(entry.name, tomlkit.table())
    _write_entry(devices[entry.name], entry)
    return tomlkit.dumps(document)


def _without(text: str, name: str) -> str:
    import tomlkit
    from tomlkit.items import Table

    document: Any = tomlkit.parse(text)
    table = document["device"][name]
    lines = text.split("\n")
    first = key_lines(text)["device", name] - 1
    begin = sum(len(line) + 1 for line in lines[:first])
    after_header = begin + len(lines[first]) + 1
    if isinstance(table, Table) and lines[first].lstrip().startswith("["):
        body = table.as_string()
        if text.startswith(body, after_header):
            return text[:begin] + _comments_behind(table) + text[after_header + len(body) :]
    # Not one block [device.NAME]: written in a way of its own.
    del document["device"][name]
    return tomlkit.dumps(document)


def _comments_behind(table: Any) -> str:
    """Return what stands behind a table's last key, from the first comment on."""
    behind: list[str] = []
    for key, item in reversed(table.value.body):
        if key is not None:
            break
        behind.insert(0, item.as_string())
    return "".join(behind).lstrip()


def _write_entry(table: Table, entry: FleetEntry) -> None:
    """Set what differs, so that comments beside what stays are kept."""
    after = entry.certificate_not_after
    _set(table, "address", entry.address)
    _set(table, "device_id", entry.device_id)
    _set(table, "tags", dict(entry.tags))
    _set(
        table,
        "facts",
        {key: v[0] if len(v) == 1 else list(v) for key, v in entry.facts.items() if v},
    )
    _set(table, "certificate_serial", entry.certificate_serial)
    _set(table, "certificate_not_after", after.astimezone(timezone.utc) if after else None)


def _set(table: Table, key: str, value: object) -> None:
    from tomlkit import inline_table

    if not value:
        table.pop(key, None)
        return
    old = table.get(key)
    if old is not None and _plain(old) == value:
        return
    if isinstance(value, dict):
        made = inline_table()
        made.update(value)
        table[key] = made
    else:
        table[key] = value


def _plain(value: Any) -> object:
    """Return what a tomlkit item stands for."""
    return value.unwrap() if hasattr(value, "unwrap") else value
