"""Files for their owner's eyes: modes, whole or not at all."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from boardfront.protos.private_file import (
    PrivateFileError,
    create_private,
    make_private_folder,
    read_private,
    write_private,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _generous() -> Iterator[None]:
    """A umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_written_it_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret" / "key.pem"
    write_private(path, b"one")
    write_private(path, b"two")
    assert read_private(path) == b"two"
    assert (_mode(path), _mode(path.parent)) == (0o600, 0o700)
    assert [found.name for found in path.parent.iterdir()] == ["key.pem"]


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    make_private_folder(folder)
    assert _mode(folder) == 0o700


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_private(tmp_path / "nothing") is None
    (tmp_path / "file").write_text("")
    assert read_private(tmp_path / "file" / "below") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_what_others_may_touch_is_not_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    write_private(path, b"one")
    path.chmod(mode)
    with pytest.raises(PrivateFileError, match=f"mode {mode:o}.*chmod 600"):
        read_private(path)


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(PrivateFileError, match="no plain file"):
        read_private(tmp_path / "pipe")


def test_a_failed_write_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret" / "key.pem"
    write_private(path, b"one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PrivateFileError, match="No space left"):
        write_private(path, b"two")
    assert read_private(path) == b"one"
    assert [found.name for found in path.parent.iterdir()] == ["key.pem"]


def test_a_new_one_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "invitation"
    create_private(path, b"one")
    assert _mode(path) == 0o600
    with pytest.raises(PrivateFileError, match="there already"):
        create_private(path, b"two")
    assert path.read_bytes() == b"one"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PrivateFileError, match="there already"):
        create_private(tmp_path / "link", b"three")
    assert not (tmp_path / "elsewhere").exists()
