"""A board's credentials under certificates, lists and files that are none."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.device_agent.secured import DEVICE_ID, give_credentials
from tests.fuzz.targets import assert_only, watched

from boardfront.device_agent.credentials import Credentials
from boardfront.host.fleet.authority import Authority
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fuzz.mutation import Mutator


def fuzz_credentials(mutator: Mutator, count: int, folder: Path) -> Counter[str]:
    """Renewals, revocations and files: refused, and what was in use stays in use."""
    authority = Authority.open(folder / "authority", create=True)
    state = folder / "agent"
    credentials = give_credentials(state, authority, DEVICE_ID)
    issued = authority.issue_board(credentials.request(), DEVICE_ID, replace=True)
    (identity,) = (
        path for path in credentials.folder.iterdir() if b"PRIVATE" in path.read_bytes()
    )
    right = identity.read_bytes()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        kind = ("install", "revoke", "load")[number % 3]
        content = mutator.spoil(right if kind == "load" else issued.certificate_pem)
        with watched(content):
            try:
                if kind == "install":
                    credentials.install(content, mutator.random.choice((b"", content)))
                elif kind == "revoke":
                    credentials.set_revoked([content[:40].decode("latin-1"), "1a2b"])
                else:
                    identity.write_bytes(content)
                    Credentials.load(state, DEVICE_ID)
            except BoardfrontError:
                outcomes[f"{kind} refused"] += 1
            else:
                outcomes[f"{kind} taken"] += 1
                if kind == "install":
                    # What is around the certificate in a file may be anything.
                    issued = authority.issue_board(credentials.request(), DEVICE_ID, replace=True)
                    right = identity.read_bytes()
        identity.write_bytes(right)
        assert Credentials.load(state, DEVICE_ID) is not None
        credentials.dates()
    assert_only(folder, state, folder / "authority")
    return outcomes
