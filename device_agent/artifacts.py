"""Artifacts on the agent's disk, named by the sha256 of their bytes, those used last kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtifactMismatchError(WrongInputError):
    """The bytes sent are not what their name and size say."""


class ArtifactTooLargeError(WrongInputError):
    """An artifact is over the agent's limit or over the room on its disk."""


class ArtifactNotStoredError(BoardfrontError):
    """The agent's disk did not take an artifact."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactLimits:
    """How much is kept.

    Args:
        one_bytes: Largest artifact that is taken.
        all_bytes: Of all artifacts together; those not used for longest go first.
        unused_s: What was not used for so long goes in any case, in seconds.
    """

    one_bytes: int = 1 << 30
    all_bytes: int = 4 << 30
    unused_s: float = 30 * 86400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kept:
    size_bytes: int
    used_unix_s: float


class ArtifactStore:
    """Keeps artifacts; a name is trusted only after the bytes were checked against it.

    A file's modification time is when it was last used, so that a restart forgets nothing.
    Safe for several threads: a file appears under its name complete or not at all.

    Args:
        folder: Where they are.
        limits: How much is kept.
        in_use: Returns the names that must not go, whatever the limits say.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limits: ArtifactLimits | None = None,
        in_use: Callable[[], set[str]] = set,
    ) -> None:
        self._folder = folder
        self._limits = limits or ArtifactLimits()
        self._in_use = in_use
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            leftover.unlink(missing_ok=True)
        # Used longest ago first.
        self._kept = OrderedDict(sorted(_found(folder), key=lambda item: item[1].used_unix_s))
        self._all_bytes = sum(kept.size_bytes for kept in self._kept.values())

    @property
    def all_bytes(self) -> int:
        """Size of all artifacts together."""
        return self._all_bytes

    def path(self, sha256: str) -> Path | None:
        """Return the file of an artifact, or None if it must be sent. This counts as a use."""
        path = self._folder / _checked(sha256)
        now_s = time.time()
        with self._lock:
            try:
                size_bytes = path.stat().st_size
            except FileNotFoundError:
                self._forget(sha256)
                return None
            with contextlib.suppress(OSError):
                os.utime(path, (now_s, now_s))
            self._note(sha256, _Kept(size_bytes=size_bytes, used_unix_s=now_s))
        return path

    def missing(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of `names` that must be sent."""
        return tuple(name for name in names if self.path(name) is None)

    def receive(self, sha256: str, size_bytes: int, chunks: Iterator[bytes]) -> None:
        """Write an artifact from its chunks.

        Raises:
            ArtifactTooLargeError: Before anything is written.
            ArtifactMismatchError: If the bytes are not those named.
            ArtifactNotStoredError: If they cannot be written; nothing of them is left.
        """
        self._check_size(size_bytes)
        try:
            self._write(self._folder / _checked(sha256), size_bytes, chunks)
        except OSError as error:
            # `_check_size` saw room, and somebody else took it.
            raise ArtifactNotStoredError(
                f"artifact of {size_bytes} bytes: the agent cannot write it ({error.strerror}): "
                f"free space on the device, under {self._folder}, then run again"
            ) from error
        self.evict(spare=sha256)

    def evict(self, *, spare: str = "", free_bytes: int = 0) -> None:
        """Remove what is over the limits, and what is needed to have `free_bytes` on the disk.

        Artifacts in use and `spare` stay, even if that leaves more than the limits allow.
        """
        with self._lock:
            oldest = next(iter(self._kept), None)
            if oldest is None or not self._must_go(oldest, free_bytes):
                return
            staying = self._in_use() | {spare}
            for sha256 in [name for name in self._kept if name not in staying]:
                if not self._must_go(sha256, free_bytes):
                    break
                with contextlib.suppress(OSError):
                    (self._folder / sha256).unlink(missing_ok=True)
                    self._forget(sha256)

    def _write(self, target: Path, size_bytes: int, chunks: Iterator[bytes]) -> None:
        handle, name = tempfile.mkstemp(suffix=".part", dir=self._folder)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _write_checked(file, target.name, size_bytes, chunks)
                # Else a power cut may leave the name without the bytes, and the name is trusted.
                file.flush()
                os.fsync(file.fileno())
            with self._lock:
                part.replace(target)
                self._note(target.name, _Kept(size_bytes=size_bytes, used_unix_s=time.time()))
        finally:
            part.unlink(missing_ok=True)

    def _must_go(self, sha256: str, free_bytes: int) -> bool:
        """Whether an artifact has to go, when all that were used less recently are gone."""
        return (
            self._all_bytes > self._limits.all_bytes
            or time.time() - self._kept[sha256].used_unix_s > self._limits.unused_s
            or (free_bytes > 0 and shutil.disk_usage(self._folder).free < free_bytes)
        )

    def _note(self, sha256: str, kept: _Kept) -> None:
        self._forget(sha256)
        self._kept[sha256] = kept
        self._all_bytes += kept.size_bytes

    def _forget(self, sha256: str) -> None:
        known = self._kept.pop(sha256, None)
        if known is not None:
            self._all_bytes -= known.size_bytes

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._limits.one_bytes:
            raise ArtifactTooLargeError(
                f"artifact of {size_bytes} bytes: this agent takes up to "
                f"{self._limits.one_bytes}: raise --max-artifact-mb"
            )
        self.evict(free_bytes=size_bytes)
        free_bytes = shutil.disk_usage(self._folder).free
        if size_bytes > free_bytes:
            raise ArtifactTooLargeError(
                f"artifact of {size_bytes} bytes: the agent's disk has {free_bytes} free: free "
                f"space on the device, under {self._folder}, then run again"
            )


def _found(folder: Path) -> Iterator[tuple[str, _Kept]]:
    for path in folder.iterdir():
        if _SHA256.fullmatch(path.name):
            stat = path.stat()
            yield path.name, _Kept(size_bytes=stat.st_size, used_unix_s=stat.st_mtime)


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
