"""Open a store's database: connect, refuse what is no store, bring older files up to date."""

from __future__ import annotations

import functools
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

from boardfront.latency_models.store_location import file_of, shown, store_url
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
_CONNECT_WITHIN_S = 10
_MIGRATION_LOCK = 0x62_6F_61_72_64_66_72  # "boardfr": one number for all boardfronts


class StoreError(BoardfrontError):
    """The store's database could not be read or written."""

    def __init__(self, place: str, problem: BaseException) -> None:
        self.place = place
        # SQLAlchemy's own text goes on for lines; the driver's says what happened.
        cause = getattr(problem, "orig", None) or problem
        reason = " ".join(str(cause).split())
        check = "its folder, its rights and the free space"
        if "://" in place and not place.startswith("sqlite"):
            check = "that the server runs, the user's rights and the free space"
        super().__init__(
            f"cannot use the store {place}: expected a database that can be read and written, "
            f"got {reason!r}: check {check}, then run again",
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
    url = store_url(location)
    place = shown(location)
    _make_folder(location, place)
    engine = _engine(url, place)
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


def snapshot(engine: sa.Engine) -> sa.engine.Connection:
    """Return a connection whose transactions see one state of the store from begin to end."""
    connection = engine.connect()
    if connection.dialect.name == "sqlite":
        return connection
    return connection.execution_options(isolation_level="REPEATABLE READ")


def store_revision(connection: sa.engine.Connection, place: str) -> str | None:
    """Return the revision, or None for an empty database."""
    tables = sa.inspect(connection).get_table_names()
    if VERSION_TABLE in tables:
        query = sa.select(sa.column("version_num", sa.String)).select_from(sa.table(VERSION_TABLE))
        return str(connection.execute(query).scalar_one())
    if tables:
        raise _no_store(place, f"a database with the table {tables[0]!r}")
    return None


def take_turn(connection: sa.engine.Connection, lock: int) -> None:
    """Wait for the others that take this lock; it is held until the transaction ends.

    SQLite's write lock does that already, see `writing`.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))


def _make_folder(location: str | Path, place: str) -> None:
    file = file_of(location)
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StoreError(place, problem) from problem


def _engine(url: sa.URL, place: str) -> sa.Engine:
    if url.drivername == "sqlite":
        engine = sa.create_engine(url, json_serializer=_dumps)
        sa.event.listen(engine, "connect", _on_sqlite_connect)
        sa.event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    try:
        # A run lasts days: a connection that a restarted server dropped is replaced unseen.
        return sa.create_engine(
            url, json_serializer=_dumps, pool_pre_ping=True, connect_args=_server_settings(url)
        )
    except ImportError as problem:
        raise BoardfrontError(
            f"cannot use the store {place}: expected psycopg, got {problem}: "
            "run pip install 'boardfront[postgresql]'"
        ) from problem


def _server_settings(url: sa.URL) -> dict[str, object]:
    """Return what every wait for the server ends by; what the URL says goes before it."""
    lock_timeout = f"-c lock_timeout={int(_BUSY_TIMEOUT_S * 1000)}"
    given = url.query.get("options", "")
    settings: dict[str, object] = {
        "connect_timeout": _CONNECT_WITHIN_S,
        "application_name": "boardfront",
        "keepalives_idle": 30,
        "tcp_user_timeout": int(_BUSY_TIMEOUT_S * 1000),
    }
    kept = {name: value for name, value in settings.items() if name not in url.query}
    asked = given if isinstance(given, str) else " ".join(given)
    return kept | {"options": f"{lock_timeout} {asked}".strip()}


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
    known = _known_revisions()
    with connection.begin():
        take_turn(connection, _MIGRATION_LOCK)
        current = store_revision(connection, place)
        if current is not None and current not in known:
            raise WrongInputError(
                f"{place}: expected a store of revision {known[0]} or older, got {current}: "
                "a newer boardfront wrote it; install that version, or give another store",
            )
        if current != known[0]:
            config = _migrations()
            config.attributes["connection"] = connection
            with _ONE_UPGRADE:
                alembic.command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        _use_write_ahead_log(connection)


def _migrations() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@functools.cache
def _known_revisions() -> tuple[str, ...]:
    """Return the revisions that this version knows, newest first."""
    scripts = alembic.script.ScriptDirectory.from_config(_migrations())
    return tuple(script.revision for script in scripts.walk_revisions())


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
        f"{place}: expected a boardfront store, got {got}: give a store, a new file, or an "
        "empty database",
    )
