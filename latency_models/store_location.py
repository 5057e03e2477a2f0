"""Where a store is: an SQLite file by its path, or a database by its URL."""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from boardfront.protos.errors import WrongInputError

_HOW = "write a path, sqlite:///PATH, or postgresql://USER@HOST/DATABASE"
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_SCHEME = re.compile(r"(sqlite|postgres(ql)?)(\+\w+)?:/")
_USER_PASSWORD = re.compile(r"://([^:@/?]*):.*@")
_PASSWORD_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE)


def store_url(location: str | Path) -> sa.URL:
    """Read a store's location.

    Raises:
        WrongInputError: It is a URL of another kind of database, or none that can be read.
    """
    text = str(location)
    if "://" not in text:
        if _SCHEME.match(text):
            # What is left of a URL that was taken for a path.
            raise _wrong(text)
        return sa.URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError) as problem:
        raise _wrong(text) from problem
    driver = _DRIVERS.get(url.drivername)
    if driver is None or "@" in (url.host or ""):
        raise _wrong(text)
    return url.set(drivername=driver)


def shown(location: str | Path) -> str:
    """Return a location as it may be printed: without a password."""
    text = str(location)
    if "://" not in text:
        return text
    return _USER_PASSWORD.sub(r"://\1:***@", _PASSWORD_IN_QUERY.sub(r"\1***", text))


def file_of(location: str | Path) -> Path | None:
    """Return the file of an SQLite store, or None for a server's or one in memory."""
    url = store_url(location)
    name = url.database or ""
    if url.drivername != "sqlite" or name in {"", ":memory:"}:
        return None
    if name.startswith("file:"):
        # SQLite's own URIs; what follows "?" is in the query already.
        name = name.removeprefix("file:")
    return Path(name)


def is_same(one: str | Path, other: str | Path) -> bool:
    """Return whether two locations are one store. Two names of one server are not seen through."""
    files = file_of(one), file_of(other)
    if files[0] is None or files[1] is None:
        return store_url(one) == store_url(other)
    return files[0].exists() and files[1].exists() and files[0].samefile(files[1])


def check_exists(location: str | Path) -> None:
    """Refuse a file that is not there: opening it would make an empty store.

    Raises:
        WrongInputError: There is no such file, or it is a folder.
    """
    file = file_of(location)
    if file is not None and not file.is_file():
        got = "a folder" if file.is_dir() else "no such file"
        raise WrongInputError(
            f"{shown(location)}: expected a measurement store, got {got}: "
            "measure something first, or give another by --store or BOARDFRONT_STORE"
        )


def _wrong(text: str) -> WrongInputError:
    return WrongInputError(
        f"expected a path or a database URL, got {shown(text)}: {_HOW}; in a password, write @ "
        "as %40 and / as %2F"
    )
