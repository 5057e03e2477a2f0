"""Fetching one file over HTTP: streamed, bounded in time, checked, and never half there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from pathlib import Path

CHUNK_BYTES = 1 << 18
STALL_S = 30.0


class DownloadError(BoardfrontError):
    """A file could not be fetched, or what came is not the file.

    Args:
        url: Where it was sought.
        reason: What happened.
    """

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"cannot download {url}: {reason}")


class DownloadProgress(Protocol):
    """Hears how a download goes on; called from the downloading thread, must not block."""

    def __call__(self, name: str, done_bytes: int, total_bytes: int | None, /) -> None:
        """Take note that `done_bytes` of the file `name` are here, of `total_bytes` if known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """How to fetch what is not on this machine.

    Args:
        url: Folder that holds the files; None takes the data set's public default.
        cache: Folder to keep files in; None takes the user's cache folder.
        limit_s: Most seconds that all files together may take.
        progress: Hears how it goes on.
    """

    url: str | None = None
    cache: Path | None = None
    limit_s: float = 900.0
    progress: DownloadProgress | None = None


def fetch_file(
    url: str,
    path: Path,
    *,
    sha256: str,
    deadline_s: float,
    progress: DownloadProgress | None = None,
) -> None:
    """Fetch `url` into `path`; the file appears whole and checked, or not at all.

    Args:
        url: http or https.
        path: Where to put it; the folder is made.
        sha256: Of the content, in hexadecimal.
        deadline_s: Moment of `time.monotonic` at which to give up.
        progress: Hears how it goes on.

    Raises:
        WrongInputError: `url` is neither http nor https.
        DownloadError: Nothing came, the transfer broke off, or the content is another.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise WrongInputError(f"url: expected http:// or https://, got {url!r}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _stream(url, partial, deadline_s=deadline_s, progress=progress)
        found = hash_file(partial)
        if found != sha256:
            raise DownloadError(url, f"expected sha256 {sha256}, got {found}")
        partial.replace(path)
    except (OSError, HTTPException) as error:
        raise DownloadError(url, str(error) or type(error).__name__) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _stream(url: str, path: Path, *, deadline_s: float, progress: DownloadProgress | None) -> None:
    stall_s = min(STALL_S, _remaining_s(url, deadline_s))
    with (
        urllib.request.urlopen(url, timeout=stall_s) as response,  # noqa: S310  # scheme checked
        path.open("wb") as file,
    ):
        total = _announced_bytes(response)
        done = 0
        while chunk := response.read1(CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(url.rsplit("/", 1)[-1], done, total)
            _remaining_s(url, deadline_s)
    if total is not None and done != total:
        raise DownloadError(url, f"broke off after {done} of {total} bytes; try again")


def _announced_bytes(response: HTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _remaining_s(url: str, deadline_s: float) -> float:
    remaining_s = deadline_s - time.monotonic()
    if remaining_s <= 0:
        raise DownloadError(url, "not done within the time allowed; allow more")
    return remaining_s
