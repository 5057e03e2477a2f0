"""Where a person's files are, after the XDG base directory specification."""

from __future__ import annotations

import os
from pathlib import Path


def default_store() -> Path:
    """Return the measurement store's file: BOARDFRONT_STORE, else under the user's data."""
    given = os.environ.get("BOARDFRONT_STORE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME")
    data = Path(base) if base else Path.home() / ".local" / "share"
    return data / "boardfront" / "measurements.db"
