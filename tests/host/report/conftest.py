from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.host.report.made import Plan, make

if TYPE_CHECKING:
    from boardfront.host.run_folder import RunFolder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two targets with a limit, failures and doubtful times, to its end."""
    return make(tmp_path_factory.mktemp("whole"), Plan(), "whole")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same with another seed, nothing doubtful in it."""
    plan = Plan(seed=2, evaluations=48, limit_ms=0.0)
    return make(tmp_path_factory.mktemp("other"), plan, "other")


@pytest.fixture(scope="session")
def part(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that stopped amid its second generation."""
    return make(tmp_path_factory.mktemp("part"), Plan(done=17, ended=False), "part")


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that stopped in its training."""
    return make(tmp_path_factory.mktemp("empty"), Plan(done=0, ended=False), "empty")
