"""Lists of cores mean what the kernel means by them."""

from __future__ import annotations

import pytest

from boardfront.protos.core_lists import parse_cpus


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", ()),
        ("0", (0,)),
        ("4-7", (4, 5, 6, 7)),
        ("0,4-5,2", (0, 2, 4, 5)),
        ("0-0", (0,)),
        ("1,0", (0, 1)),
    ],
)
def test_a_list_means_its_cores(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["any", "1-x,3", "7-4", "0-99999999999"])
def test_what_is_no_list_has_no_cores(text: str) -> None:
    assert parse_cpus(text) is None
