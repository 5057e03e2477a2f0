"""Artifacts on the agent's disk, named by the sha256 of their bytes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtifactMismatchError(WrongInputError):
    """The bytes sent are not what their name and size say."""


class ArtifactTooLargeError(WrongInputError):
    """An artifact is over the agent's limit or over the room on its disk."""


class ArtifactStore:
    """Keeps artifacts; a name is trusted only after the bytes were checked against it.

    Safe for several threads: a file appears under its name complete or not at all.
    """

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            leftover.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path | None:
        """Return the file of an artifact, or None if it must be sent."""
        path = self._folder / _checked(sha256)
        return path if path.is_file() else None

    def missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of `names` that must be sent."""
        return tuple(name for name in names if self.path(name) is None)

    def receive(self, sha256: str, size_bytes: int, chunks: Iterator[bytes]) -> None:
        """Write an artifact from its chunks.

        Raises:
            ArtifactTooLargeError: Before anything is written.
            ArtifactMismatchError: If the bytes are not those named.
        """
        self._check_size(size_bytes)
        target = self._folder / _checked(sha256)
        handle, name = tempfile.mkstemp(suffix=".part", dir=self._folder)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _write_checked(file, sha256, size_bytes, chunks)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise ArtifactTooLargeError(
                f"artifact of {size_bytes} bytes: this agent takes up to {self._limit_bytes}: "
                "raise --max-artifact-mb"
            )
        free_bytes = shutil.disk_usage(self._folder).free
        if size_bytes > free_bytes:
            raise ArtifactTooLargeError(
                f"artifact of {size_bytes} bytes: the agent's disk has {free_bytes} free"
            )


def _checked(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise WrongInputError(
            f"artifact name {sha256[:80]!r}: expected the 64 hexadecimal digits of a sha256"
        )
    return sha256


def _write_checked(file: IO[bytes], sha256: str, size_bytes: int, chunks: Iterator[bytes]) -> None:
    digest, written = hashlib.sha256(), 0
    for chunk in chunks:
        written += len(chunk)
        if written > size_bytes:
            break
        digest.update(chunk)
        file.write(chunk)
    if written != size_bytes or digest.hexdigest() != sha256:
        raise ArtifactMismatchError(
            f"artifact {sha256[:12]}: expected {size_bytes} bytes of that sha256, got "
            f"{written} bytes of {digest.hexdigest()[:12]}: send it again"
        )
