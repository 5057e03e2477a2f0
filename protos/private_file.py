"""Files that only their owner may read: keys, certificates, lists of who is refused."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from typing import TYPE_CHECKING

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 4 << 20


class PrivateFileError(BoardfrontError):
    """A private file cannot be read or written, or others may read it."""


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter; one that is there becomes so.

    Raises:
        PrivateFileError: If that is not permitted.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise PrivateFileError(
            f"{folder} cannot be made a private folder ({error.strerror}): give it to the user "
            "that runs this"
        ) from None


def write_private(path: Path, content: bytes) -> None:
    """Write a file as a whole, mode 0600, also over a power cut: the old one or the new one.

    Raises:
        PrivateFileError: If it cannot be written.
    """
    make_private_folder(path.parent)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        _write_new(part, content)
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise PrivateFileError(
            f"{path} cannot be written ({error.strerror}): make room, or give the folder to the "
            "user that runs this"
        ) from None


def create_private(path: Path, content: bytes) -> None:
    """Write a new file, mode 0600, in a folder that is left as it is.

    Raises:
        PrivateFileError: If it is there already, or cannot be written.
    """
    try:
        _write_new(path, content)
    except FileExistsError:
        raise PrivateFileError(f"{path} is there already: remove it, or name another") from None
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise PrivateFileError(f"{path} cannot be written ({error.strerror})") from None


def read_private(path: Path) -> bytes | None:
    """Return a file's content; None if there is none.

    Raises:
        PrivateFileError: If it cannot be read, is no plain file, or others may read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PrivateFileError(
            f"{path} cannot be read ({error.strerror}): run this as the user it belongs to"
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PrivateFileError(f"{path} is no plain file: move it away")
        if found.st_mode & 0o077:
            raise PrivateFileError(
                f"{path} can be read or written by others (mode {found.st_mode & 0o777:o}): "
                f"`chmod 600 {path}`, and renew what is in it if others were there"
            )
        return file.read(_MAX_BYTES)


def _write_new(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        # The mode given at creation is narrowed by the umask, never widened.
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
