"""A disk so small that a test can fill it: no rights are needed where user namespaces are open."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.faults.hosts import ROOT

if TYPE_CHECKING:
    from typing_extensions import Self

_BLOCK_BYTES = 4096


class SmallDisk:
    """A file system in memory that only the processes under `prefix` see at `path`.

    Args:
        path: An empty folder.
        size_bytes: Of it.
        files: Most that it holds, folders included.
    """

    def __init__(self, path: Path, *, size_bytes: int = 4 << 20, files: int = 400) -> None:
        self._mounted = path
        options = f"size={size_bytes},nr_inodes={files}"
        mount = f"mount -t tmpfs -o {options} small '{path}' && echo ready && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount],  # noqa: S607
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            _, told = self._holder.communicate()
            pytest.skip(f"no file system can be mounted here without rights: {told.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command that runs the command after it where this disk is."""
        pid = str(self._holder.pid)
        enter = ("nsenter", "--target", pid, "--user", "--mount", "--preserve-credentials")
        # Else it would begin in /.
        return (*enter, "--wd", "--")

    @property
    def outside(self) -> Path:
        """The same folder as this process sees it."""
        return Path(f"/proc/{self._holder.pid}/root{self._mounted}")

    def fill(self, *, but_bytes: int = 0) -> None:
        """Leave no room, or only so much of it."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while (left := self._free_bytes() - but_bytes) >= _BLOCK_BYTES:
                file.write(bytes(left))
        assert self._free_bytes() - but_bytes < _BLOCK_BYTES

    def fill_with_files(self) -> None:
        """Leave no room for one more file or folder, however small."""
        with contextlib.suppress(OSError):
            while True:
                descriptor, _ = tempfile.mkstemp(prefix="ballast", dir=self.outside)
                os.close(descriptor)
        assert os.statvfs(self.outside).f_favail == 0

    def free(self) -> None:
        """Make room again."""
        for path in self.outside.glob("ballast*"):
            path.unlink()

    @property
    def _ballast(self) -> Path:
        return self.outside / "ballast"

    def _free_bytes(self) -> int:
        found = os.statvfs(self.outside)
        return found.f_bavail * found.f_frsize
