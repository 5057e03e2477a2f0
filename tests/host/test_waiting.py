"""Commands that want a device which another holds: they say so, wait, and can be interrupted."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import serving, until
from tests.device_agent.onnx_files import conv_net

from boardfront.host.fleet.address import RemoteAddress
from boardfront.host.fleet.lease import LeaseKeeper, lease_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.host.searching import Place

    from boardfront.device_agent.agent import Agent

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Agent, str]]:
    """A running agent and its address."""
    with serving(tmp_path_factory.mktemp("agent")) as (agent, wire):
        yield agent, wire.address


@pytest.fixture
def held(device: tuple[Agent, str]) -> Iterator[LeaseKeeper]:
    """Another run's lease of the device."""
    request = lease_request("night shift [1]", duration_s=30.0)
    with LeaseKeeper(RemoteAddress(device[1]), request, device="bench") as keeper:
        keeper.token()
        yield keeper


def _arguments(place: Place, address: str, *others: str) -> tuple[str, ...]:
    (place.folder / "net.onnx").write_bytes(conv_net(8))
    quick = ("--duration", "0.1", "--precision", "0.2", "--no-sentinel")
    return ("measure", "net.onnx", "--device", address, "--backend", "fake", *quick, *others)


@pytest.mark.slow
def test_measuring_waits_for_the_holder_and_says_so(
    place: Place, device: tuple[Agent, str], held: LeaseKeeper
) -> None:
    agent, address = device
    with place.start(*_arguments(place, address, "--priority", "4")) as running:
        until(lambda: "position 1" in running.stderr)
        (line,) = running.stderr.splitlines()
        assert line.startswith(f"note: waiting for {address}: held by ")
        assert line.endswith(", night shift [1], position 1")
        (waiting,) = agent.show_lease().waiting
        assert waiting.name.endswith(", measure net.onnx")
        assert waiting.priority == 4
        held.close()
        assert running.wait() == 0
        assert running.stderr.splitlines()[-1] == f"note: {address} is free: going on"
    assert agent.show_lease().holder is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_waits_can_be_interrupted(
    place: Place, device: tuple[Agent, str], held: LeaseKeeper, number: signal.Signals
) -> None:
    agent, address = device
    with place.start(*_arguments(place, address)) as running:
        until(lambda: "position 1" in running.stderr)
        assert running.signal(number) == 130
        assert "Traceback" not in running.stderr
    # Its place in the queue is given back, too.
    assert agent.show_lease().waiting == ()
    assert held.held


def test_what_the_store_holds_needs_no_device(place: Place, device: tuple[Agent, str]) -> None:
    _, address = device
    assert place.call(*_arguments(place, address)).returncode == 0
    with LeaseKeeper(RemoteAddress(address), lease_request("other"), device="bench") as keeper:
        keeper.token()
        again = place.call(*_arguments(place, address))
    assert (again.returncode, again.stderr) == (0, "")


def test_a_search_says_who_it_waits_for_before_it_times_anything(
    place: Place, device: tuple[Agent, str], held: LeaseKeeper
) -> None:
    agent, address = device
    place.experiment.write_text(
        place.experiment.read_text().replace('device = "local"', f'device = "{address}"')
    )
    with place.start("search", str(place.experiment), "--priority", "2") as running:
        until(lambda: "position 1" in running.stderr, within_s=60.0)
        (waiting,) = agent.show_lease().waiting
        assert waiting.name.endswith(f", run {place.run_folder.path.name}")
        assert waiting.priority == 2
        assert agent.jobs.queued == 0
        assert running.signal(signal.SIGINT) == 130
        assert "go on with: boardfront search --resume" in running.stderr
    assert agent.show_lease().waiting == ()
    assert held.held
