"""Announcing is off by default, and refused where it could help nobody."""

from __future__ import annotations

import ipaddress
import socket
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from boardfront.device_agent import announce
from boardfront.device_agent.announce import NotInstalledError, addresses
from boardfront.device_agent.cli import main
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

BEYOND = "192.0.2.9:50051"
"""No loopback; an address that documents use."""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost", "unix"])
def test_nobody_reaches_loopback(host: str) -> None:
    assert addresses(host) == []


def test_a_given_address_is_told_as_it_is() -> None:
    assert addresses("192.0.2.9") == ["192.0.2.9"]
    assert addresses("[2001:db8::5]") == ["2001:db8::5"]


def test_all_addresses_are_those_that_others_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "lo": ["127.0.0.1", "::1"],
        "eth0": ["192.0.2.7", "fe80::1%eth0", "2001:db8::7"],
        "odd": ["nonsense"],
    }
    monkeypatch.setattr(
        psutil,
        "net_if_addrs",
        lambda: {
            name: [
                SimpleNamespace(
                    family=socket.AF_INET6 if ":" in one else socket.AF_INET, address=one
                )
                for one in given
            ]
            for name, given in known.items()
        },
    )
    assert addresses("0.0.0.0") == ["192.0.2.7"]  # noqa: S104
    assert addresses("[::]") == ["192.0.2.7", "2001:db8::7"]


def test_this_machines_addresses() -> None:
    for address in addresses("[::]"):
        parsed = ipaddress.ip_address(address)
        assert not parsed.is_loopback
        assert not (parsed.version == 6 and parsed.is_link_local)


def test_what_cannot_be_announced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongInputError, match=r"--listen 127\.0\.0\.1:0: expected an address"):
        announce.check("127.0.0.1:0")
    announce.check(BEYOND)
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with pytest.raises(NotInstalledError, match=r"pip install 'boardfront\[discovery\]'"):
        announce.check(BEYOND)


@pytest.mark.parametrize("command", ["serve", "enroll"])
def test_the_command_refuses_before_it_does_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    state = tmp_path / "state"
    code = main([command, "--announce", "--listen", "127.0.0.1:0", "--state", str(state)])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("boardfront-agent: --announce with --listen 127.0.0.1:0: expected")
    assert not state.exists()
