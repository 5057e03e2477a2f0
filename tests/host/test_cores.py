"""Lists of cores mean what the kernel means by them."""

from __future__ import annotations

import pytest

from boardfront.host.cores import cores_of


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("", set()),
        ("0", {0}),
        ("4-7", {4, 5, 6, 7}),
        ("0,4-5,2", {0, 2, 4, 5}),
        ("0-0", {0}),
        ("any", set()),
        ("1-x,3", {3}),
        ("7-4", set()),
    ],
)
def test_a_list_means_its_cores(text: str, cores: set[int]) -> None:
    assert cores_of(text) == cores


def test_a_list_of_another_order_means_the_same() -> None:
    assert cores_of("1,0") == cores_of("0-1")


def test_a_span_that_no_device_has_is_cut_off() -> None:
    assert len(cores_of("0-99999999999")) < 10_000
