"""Boards that announce themselves are found; nothing that they say is believed."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.device_agent.harness import AgentProcess, until
from tests.device_agent.secured import give_credentials

from boardfront.device_agent.announce import Place as AgentPlace
from boardfront.device_agent.announce import addresses, announcing
from boardfront.device_agent.environment import read_device_id
from boardfront.host.fleet.authority import Authority
from boardfront.host.fleet.discovery import DiscoveryError, Found, discover
from boardfront.host.fleet.fleet_edit import put
from boardfront.host.fleet.fleet_file import FleetEntry
from boardfront.protos.announcement import SERVICE_TYPE, Announcement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.host.searching import Place

zeroconf = pytest.importorskip("zeroconf")

pytestmark = pytest.mark.timeout(120)

HERE = ("127.0.0.1",)
"""Only this machine hears the tests. Answers to a first question may take a second."""

ROCK = Announcement(name="rock5b", device_id="0123456789abcdef", protocol_version=1, tls=True)


@pytest.fixture(scope="module", autouse=True)
def multicast() -> None:
    """Skip where the system lets nobody multicast, as some containers do."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1")
            )
            probe.sendto(b"", ("224.0.0.251", 5353))
        except OSError as error:
            pytest.skip(f"no multicast here: {error}")


@pytest.fixture(scope="module")
def announced() -> Iterator[None]:
    """One board announces itself truly, and somebody sends rubbish."""
    with (
        announcing(ROCK, AgentPlace(host="127.0.0.1", port=50051), interfaces=HERE),
        contextlib.closing(zeroconf.Zeroconf(interfaces=list(HERE))) as speaker,
    ):
        speaker.register_service(
            zeroconf.ServiceInfo(
                SERVICE_TYPE,
                f"odd.{SERVICE_TYPE}",
                parsed_addresses=["2001:db8::5"],
                port=7,
                properties={b"name": b"\x1b[2Jodd" + bytes(100), b"v": b"\xff", b"\xe4": b"x"},
                server="odd.local.",
            )
        )
        yield


@pytest.mark.usefixtures("announced")
def test_who_announces_itself_is_found() -> None:
    found: dict[str, Found] = {}

    def are_found() -> bool:
        found.update({one.address: one for one in discover(2.5, interfaces=HERE)})
        return {"127.0.0.1:50051", "[2001:db8::5]:7"} <= set(found)

    assert until(are_found)
    assert found["127.0.0.1:50051"] == Found(
        name="rock5b",
        address="127.0.0.1:50051",
        device_id="0123456789abcdef",
        protocol_version=1,
        tls=True,
    )
    odd = found["[2001:db8::5]:7"]
    assert odd.name.isprintable()
    assert len(odd.name) == 64
    assert (odd.device_id, odd.protocol_version, odd.tls) == ("", 0, False)


@pytest.mark.slow
def test_who_ended_is_not_found() -> None:
    def is_found() -> bool:
        return "127.0.0.1:50052" in {one.address for one in discover(2.5, interfaces=HERE)}

    other = replace(ROCK, name="other", device_id="fedcba9876543210")
    with announcing(other, AgentPlace(host="127.0.0.1", port=50052), interfaces=HERE):
        assert until(is_found)
    assert not is_found()


def test_without_zeroconf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with pytest.raises(DiscoveryError, match=r"pip install 'boardfront\[discovery\]'"):
        discover(0.1)


def test_an_agent_announces_itself(place: Place, tmp_path: Path) -> None:
    """From end to end: an enrolled board that listens to the network, and the command."""
    everywhere = "0.0.0.0"  # noqa: S104 - what is tested
    if not addresses(everywhere):
        pytest.skip("this machine has no address beyond loopback")
    authority = Authority.open(tmp_path / "fleet", create=True)
    state = tmp_path / "agent"
    state.mkdir(mode=0o700)
    give_credentials(state, authority, read_device_id(state))
    with AgentProcess(
        state,
        listen=f"{everywhere}:0",
        options=("--announce", "--name", "announced-here"),
    ) as agent:
        port = agent.address.rpartition(":")[2]
        done = place.call("device", "discover", "--within", "5", "--json")
        assert done.returncode == 0, done.stderr
        found = [one for one in json.loads(done.stdout) if one["name"] == "announced-here"]
        assert found, (state / "stderr.log").read_text()
        (one,) = found
        assert one["address"].endswith(f":{port}")
        assert (one["tls"], one["in_fleet"]) == (True, None)
        put(
            place.fleet,
            FleetEntry(name="mine", address=one["address"], device_id=one["device_id"]),
        )
        text = place.call("device", "discover", "--within", "3").stdout
        (row,) = [line.split("\t") for line in text.splitlines() if "announced-here" in line]
        assert row[1:4] == [one["address"], "yes", "mine"]
        put(
            place.fleet,
            FleetEntry(name="mine", address="10.0.0.1:1", device_id=one["device_id"]),
        )
        moved = place.call("device", "discover", "--within", "3").stdout
        assert f"mine, moved: boardfront device add {one['address']} --name mine" in moved
        assert agent.terminate() == 0


def test_nobody_announces(place: Place) -> None:
    done = place.call("device", "discover", "--within", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), list)
