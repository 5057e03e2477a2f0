"""Locations of stores: what passes for one, and what of it may be shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from boardfront.latency_models.store_location import file_of, is_same, shown, store_url
from boardfront.protos.errors import WrongInputError


@pytest.mark.parametrize(
    ("location", "driver"),
    [
        ("a folder/store.db", "sqlite"),
        (Path("store.db"), "sqlite"),
        ("sqlite:///store.db", "sqlite"),
        ("postgres://u@h/d", "postgresql+psycopg"),
        ("postgresql://u:p%40@h:5433/d", "postgresql+psycopg"),
        ("postgresql+psycopg:///d", "postgresql+psycopg"),
    ],
)
def test_what_passes(location: str | Path, driver: str) -> None:
    assert store_url(location).drivername == driver


@pytest.mark.parametrize(
    "location",
    [
        "mysql://u:secret@h/d",
        "postgresql+psycopg2://u:secret@h/d",
        "postgresql://u:sec@ret@h/d",
        "postgresql://u:secret@h:port/d",
        "://u:secret@",
        # What pathlib makes of a URL.
        str(Path("postgresql://u:x@h/d")),
        Path("sqlite:///store.db"),
    ],
)
def test_what_does_not(location: str | Path) -> None:
    with pytest.raises(WrongInputError, match="a path or a database URL") as error:
        store_url(location)
    assert "sec" not in str(error.value)
    assert "ret" not in str(error.value)


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("postgresql://u:secret@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:se:c@r/et@h:1/d?x=y", "postgresql://u:***@h:1/d?x=y"),
        ("postgresql://:secret@h/d", "postgresql://:***@h/d"),
        (
            "postgresql://h/d?user=u&password=secret&x=y",
            "postgresql://h/d?user=u&password=***&x=y",
        ),
        ("postgresql://h:1/d?sslpassword=secret", "postgresql://h:1/d?sslpassword=***"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("a:b@c/store.db", "a:b@c/store.db"),
    ],
)
def test_what_is_shown(location: str, text: str) -> None:
    assert shown(location) == text


def test_files_of_locations(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    file.touch()
    assert file_of(file) == file_of(f"sqlite:///{file}") == file
    assert file_of(f"sqlite:///file:{file}?mode=ro&uri=true") == file
    assert file_of("sqlite://") is None
    assert file_of("postgresql://u@h/d") is None
    assert is_same(file, f"sqlite:///{tmp_path}/../{tmp_path.name}/store.db")
    assert not is_same(file, tmp_path / "other.db")
    assert is_same("postgres://u@h/d", "postgresql+psycopg://u@h/d")
