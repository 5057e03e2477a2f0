from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.host.searching import Place

from boardfront.host.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A fresh person's folder."""
    return Place(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The place of one search that nobody disturbed."""
    made = Place(tmp_path_factory.mktemp("undisturbed"))
    done = made.call("search", str(made.experiment))
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def boardfront(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """The command in this process: takes arguments, returns exit code, stdout, stderr."""
    for name, value in place.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(place.folder)
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    yield call
    signal.signal(signal.SIGTERM, before)
