from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import AgentProcess, Wire, install_rough, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boardfront.device_agent.agent import Agent


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, Wire]]:
    """An agent that a module's tests share: each test brings job ids of its own."""
    with serving(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def wire(shared: tuple[Agent, Wire]) -> Wire:
    """A client of the shared agent."""
    return shared[1]


@pytest.fixture
def agent_process(tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent that may be killed."""
    with AgentProcess(tmp_path / "state") as running:
        yield running


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A client of an agent on whose machine a third party's backend is installed."""
    place = tmp_path_factory.mktemp("site")
    install_rough(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        patch.setenv("PYTHONPATH", str(place))
        with serving(tmp_path_factory.mktemp("rough-agent")) as (_, wire):
            yield wire
