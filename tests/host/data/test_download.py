from __future__ import annotations

import hashlib
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from boardfront.host.data import Download, DownloadError, fashion_mnist
from boardfront.host.data.download import fetch_file
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves /good, /cut (half of what it announces), /slow; anything else is missing."""

    def do_GET(self) -> None:
        if self.path not in ("/good", "/cut", "/slow"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path == "/slow":
            self.send_slowly()
        else:
            self.wfile.write(CONTENT if self.path == "/good" else CONTENT[: len(CONTENT) // 2])

    def send_slowly(self) -> None:
        try:
            for start in range(0, 10_000, 100):
                self.wfile.write(CONTENT[start : start + 100])
                time.sleep(0.05)
        except OSError:
            self.close_connection = True

    @override
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(timeout=10)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server() as address:
        yield address


def soon_s(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def test_good_file_arrives_and_is_reported(url: str, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int | None]] = []
    path = tmp_path / "deep" / "file"

    def hear(name: str, done_bytes: int, total_bytes: int | None) -> None:
        heard.append((name, done_bytes, total_bytes))

    fetch_file(f"{url}/good", path, sha256=SHA256, deadline_s=soon_s(), progress=hear)
    assert path.read_bytes() == CONTENT
    assert heard[-1] == ("good", len(CONTENT), len(CONTENT))
    assert len(heard) > 1
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "sha256", "reason"),
    [
        ("good", "0" * 64, f"expected sha256 {'0' * 64}, got {SHA256}"),
        ("missing", SHA256, "HTTP Error 404"),
        ("cut", SHA256, f"broke off after {len(CONTENT) // 2} of {len(CONTENT)} bytes"),
    ],
)
def test_failed_download_leaves_nothing(
    url: str, tmp_path: Path, name: str, sha256: str, reason: str
) -> None:
    with pytest.raises(DownloadError, match=f"cannot download {url}/{name}: .*{reason}"):
        fetch_file(f"{url}/{name}", tmp_path / "file", sha256=sha256, deadline_s=soon_s())
    assert not list(tmp_path.iterdir())


def test_failed_download_keeps_what_was_there(url: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(DownloadError):
        fetch_file(f"{url}/cut", path, sha256=SHA256, deadline_s=soon_s())
    assert path.read_bytes() == b"old"


def test_deadline_ends_a_slow_download(url: str, tmp_path: Path) -> None:
    start_s = time.monotonic()
    with pytest.raises(DownloadError, match="not done within the time allowed"):
        fetch_file(f"{url}/slow", tmp_path / "file", sha256=SHA256, deadline_s=soon_s(0.3))
    assert time.monotonic() - start_s < 3


def test_refused_connection_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="refused"):
        fetch_file("http://127.0.0.1:9/x", tmp_path / "x", sha256="", deadline_s=soon_s())


def test_only_http_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(WrongInputError, match=r"expected http:// or https://, got 'file:"):
        fetch_file("file:///etc/hosts", tmp_path / "x", sha256="", deadline_s=soon_s())


def test_cache_is_filled_once_and_a_damaged_file_is_fetched_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "SHA256", {"good": SHA256})
    assert fashion_mnist.find_files(Download(url=url, cache=tmp_path)) == tmp_path
    gone = Download(url="http://127.0.0.1:9", cache=tmp_path)
    assert fashion_mnist.find_files(gone) == tmp_path
    (tmp_path / "good").write_bytes(b"damaged")
    with pytest.raises(fashion_mnist.DataUnavailableError):
        fashion_mnist.find_files(gone)
    fashion_mnist.find_files(Download(url=f"{url}/", cache=tmp_path))
    assert (tmp_path / "good").read_bytes() == CONTENT
