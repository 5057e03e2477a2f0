from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from boardfront.protos.errors import WrongInputError
from boardfront.search.spaces import catalog


def offer(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    entry = EntryPoint(name=name, value=value, group=catalog.ENTRY_POINT_GROUP)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [entry] if group else [])


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(WrongInputError, match=r"unknown space 'spoz': known are .*spos"):
        catalog.load("spoz", {})


def test_third_parties_add_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "theirs", "boardfront.search.spaces.spos:SposSpace")
    assert catalog.names() == ("etnas", "spos", "theirs")
    assert catalog.load("theirs", {}).size == 4**20


def test_duplicate_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "spos", "elsewhere:Space")
    with pytest.raises(
        WrongInputError, match=r"'spos' is offered twice, by .* and elsewhere:Space"
    ):
        catalog.names()
