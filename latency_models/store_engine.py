"""Open a store's database: connect, refuse what is no store, bring older files up to date."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import alembic.command
import alembic.config
import alembic.script
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

VERSION_TABLE = "boardfront_store_version"
"""Holds the file's revision; its own name, so that no other Alembic database passes for one."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_S = 30.0
_WRITES = "boardfront_writes"
_ONE_UPGRADE = threading.Lock()  # Alembic's context is one a process


class StoreError(BoardfrontError):
    """The store's database could not be read or written."""

    def __init__(self, place: str, problem: BaseException) -> None:
        self.place = place
        # SQLAlchemy's own text goes on for lines; the driver's says what happened.
        cause = getattr(problem, "orig", None) or problem
        reason = " ".join(str(cause).split())
        super().__init__(
            f"cannot use the store {place}: expected a database that can be read and written, "
            f"got {reason!r}: check its folder, its rights and the free space, then run again",
        )


def open_engine(location: str | Path) -> sa.Engine:
    """Connect to a store and migrate it to this version's revision.

    Several processes may do so at once: one creates or migrates the tables, the others wait.

    Args:
        location: Path of an SQLite file, which is created, or a database URL.

    Raises:
        WrongInputError: The database is no store, or a newer boardfront wrote it.
        StoreError: The database cannot be opened.
    """
    url = _url(location)
    place = url.render_as_string(hide_password=True) if "://" in str(location) else str(location)
    _make_folder(url, place)
    engine = sa.create_engine(url, json_serializer=_dumps)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _on_sqlite_connect)
        sa.event.listen(engine, "begin", _on_sqlite_begin)
    try:
        with writing(engine) as connection:
            _migrate(connection, place)
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as problem:
        engine.dispose()
        if "file is not a database" in str(problem):
            raise _no_store(place, "a file of another kind") from problem
        raise StoreError(place, problem) from problem
    except BaseException:
        engine.dispose()
        raise
    return engine


def writing(engine: sa.Engine) -> sa.engine.Connection:
    """Return a connection whose transactions take the write lock when they begin.

    A lock taken later, after a read, fails at once instead of waiting its turn.
    """
    return engine.connect().execution_options(**{_WRITES: True})


def _url(location: str | Path) -> sa.URL:
    if "://" in str(location):
        try:
            return make_url(str(location))
        except sa.exc.ArgumentError as problem:
            raise WrongInputError(
                f"expected a path or a database URL, got {location}: "
                "write sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME",
            ) from problem
    return sa.URL.create("sqlite", database=str(location))


def _make_folder(url: sa.URL, place: str) -> None:
    if url.drivername != "sqlite" or not url.database or url.database == ":memory:":
        return
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StoreError(place, problem) from problem


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _on_sqlite_connect(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver must not begin transactions by itself: it would leave table changes out of them.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT_S * 1000)}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


def _on_sqlite_begin(connection: sa.engine.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(connection: sa.engine.Connection, place: str) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = [
        r.revision for r in alembic.script.ScriptDirectory.from_config(config).walk_revisions()
    ]
    with connection.begin():
        current = _revision(connection, place)
        if current is not None and current not in known:
            raise WrongInputError(
                f"{place}: expected a store of revision {known[0]} or older, got {current}: "
                "a newer boardfront wrote it; install that version, or give another file",
            )
        if current != known[0]:
            with _ONE_UPGRADE:
                alembic.command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        _use_write_ahead_log(connection)


def _revision(connection: sa.engine.Connection, place: str) -> str | None:
    """Return the revision, or None for an empty database."""
    tables = sa.inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        query = sa.select(sa.column("version_num", sa.String)).select_from(sa.table(VERSION_TABLE))
        return str(connection.execute(query).scalar_one())
    if tables:
        raise _no_store(place, f"a database with the table {tables[0]!r}")
    return None


def _use_write_ahead_log(connection: sa.engine.Connection) -> None:
    """Let readers go on while another process writes. Kept in the file once set.

    SQLite does not wait for the lock that the switch needs, so the waiting is done here.
    """
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        return
    deadline_s = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            (mode,) = raw.execute("PRAGMA journal_mode").fetchone()
            if mode not in {"wal", "memory"}:
                raw.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as problem:  # noqa: PERF203 - the loop waits
            if "locked" not in str(problem) or time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return


def _no_store(place: str, got: str) -> WrongInputError:
    return WrongInputError(
        f"{place}: expected a boardfront store, got {got}: give the path of a store or of a new "
        "file",
    )
