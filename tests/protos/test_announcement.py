"""What comes from the network by mDNS may be anything."""

from __future__ import annotations

import random

from boardfront.protos.announcement import Announcement, from_properties


def test_there_and_back() -> None:
    said = Announcement(name="rock5b", device_id="0123", protocol_version=1, tls=True)
    wire: dict[bytes, bytes | None] = {
        key.encode(): value.encode() for key, value in said.to_properties().items()
    }
    assert from_properties(wire) == said


def test_what_is_missing_is_empty() -> None:
    nothing = Announcement(name="", device_id="", protocol_version=0, tls=False)
    assert from_properties({}) == nothing
    assert from_properties({b"v": None, b"tls": b"yes", b"name": b""}) == nothing
    assert from_properties({b"v": "\u0663".encode()}).protocol_version == 0


def test_what_is_sent_is_safe_on_a_terminal() -> None:
    generator = random.Random(1)  # noqa: S311 - a seeded test
    for _ in range(500):
        said = from_properties(
            {
                key: generator.randbytes(generator.randint(0, 200))
                for key in (b"name", b"id", b"v", generator.randbytes(3))
            }
        )
        for text in (said.name, said.device_id):
            assert text.isprintable()
            assert len(text) <= 64
