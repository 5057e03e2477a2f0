from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.host.tui import sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boardfront.host.run_folder import RunFolder


@pytest.fixture(scope="session")
def ended(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The sample run at its end; read it only."""
    return sample.make(tmp_path_factory.mktemp("ended"), ended=True)


@pytest.fixture(scope="session")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The sample run in its search; read it only."""
    return sample.make(tmp_path_factory.mktemp("halfway"), candidates=80)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are those of one place."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
