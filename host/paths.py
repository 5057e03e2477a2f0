"""Where a person's files are, after the XDG base directory specification."""

from __future__ import annotations

import os
from pathlib import Path


def default_store() -> str:
    """Return the measurement store: BOARDFRONT_STORE, else a file under the user's data.

    Returns:
        A path, or a database URL: what makes a Path of it loses one of the URL's slashes.
    """
    given = os.environ.get("BOARDFRONT_STORE")
    if given:
        return given
    base = os.environ.get("XDG_DATA_HOME")
    data = Path(base) if base else Path.home() / ".local" / "share"
    return str(data / "boardfront" / "measurements.db")


def default_fleet() -> Path:
    """Return the fleet file: BOARDFRONT_FLEET, else under the user's settings."""
    given = os.environ.get("BOARDFRONT_FLEET")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME")
    settings = Path(base) if base else Path.home() / ".config"
    return settings / "boardfront" / "fleet.toml"


def use_fleet(file: Path | None) -> None:
    """Make a file the fleet file of this process and of those that it starts; None: as it was."""
    if file is not None:
        os.environ["BOARDFRONT_FLEET"] = str(file.absolute())


def default_cache() -> Path:
    """Return the folder of what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "boardfront"
