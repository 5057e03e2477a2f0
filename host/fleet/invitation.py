"""Sharing a fleet: one file gives another engineer a certificate and the list of boards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host.fleet.credentials import (
    CredentialsError,
    Identity,
    Role,
    read_authority_pem,
    write_identity,
)
from boardfront.protos.errors import WrongInputError
from boardfront.protos.private_file import create_private, read_private

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from boardfront.host.fleet.authority import Authority, Issued

_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """What an invitation brought.

    Args:
        name: Whose certificate it is.
        fleet: The text of the owner's fleet file.
        not_after: Until when the certificate is accepted, UTC.
    """

    name: str
    fleet: str
    not_after: datetime


def invite(
    authority: Authority, name: str, file: Path, *, fleet: str, role: Role = Role.USER
) -> Issued:
    """Write an invitation: who has the file can use the boards until it is revoked.

    Args:
        authority: Of the fleet.
        name: Of whom is invited; boards show it beside a lease.
        file: Where to; mode 0600, and it must not be there yet. To be carried by a safe way
            (`scp`), and removed after use.
        fleet: The text of the fleet file, handed through as it is.
        role: What the certificate allows.

    Raises:
        WrongInputError: If the name cannot be one.
        PrivateFileError: If the file is there, or cannot be written.
    """
    if file.exists():
        raise WrongInputError(f"{file} is there already: remove it, or name another")
    made = authority.issue_client(name, role=role)
    document = {
        "boardfront_invitation": _VERSION,
        "identity": made.identity.to_bytes().decode("ascii"),
        "fleet": fleet,
    }
    create_private(file, json.dumps(document, indent=1).encode())
    return made


def join(file: Path, folder: Path) -> Joined:
    """Use an invitation on this host; one of the same fleet may be used over an older one.

    Args:
        file: The invitation.
        folder: Where this host's fleet file lies, or will lie.

    Raises:
        WrongInputError: If it is no invitation, or this host belongs to another fleet.
        PrivateFileError: If the file cannot be read, or others may read it.
    """
    content = read_private(file)
    if content is None:
        raise WrongInputError(
            f"there is no file {file}: expected one of `boardfront device invite`"
        )
    identity, fleet = _parse(file, content)
    belongs = read_authority_pem(folder)
    if belongs is not None and belongs != identity.authority_pem:
        raise WrongInputError(
            f"{folder} belongs to another fleet: give --fleet a file in a folder of its own for "
            "this one"
        )
    if (folder / "authority").exists():
        raise WrongInputError(
            f"{folder} holds the authority of a fleet, whose owner needs no invitation: give "
            "--fleet a file in a folder of its own for another fleet"
        )
    info = write_identity(folder, identity)
    return Joined(name=info.name, fleet=fleet, not_after=info.not_after)


def _parse(file: Path, content: bytes) -> tuple[Identity, str]:
    """Return an invitation's parts; what is wrong with it is said without repeating any of it."""
    try:
        document = json.loads(content)
        if document["boardfront_invitation"] != _VERSION:
            raise WrongInputError(
                f"{file} was written by another version: install the same boardfront on both"
            )
        fleet = document["fleet"]
        identity = Identity.from_bytes(document["identity"].encode("ascii"))
        identity.info()
    except (ValueError, KeyError, TypeError, AttributeError, CredentialsError) as error:
        raise WrongInputError(
            f"{file} is no invitation, or it is damaged ({type(error).__name__}): expected a file "
            "of `boardfront device invite`"
        ) from None
    if not isinstance(fleet, str):
        raise WrongInputError(f"{file} is damaged: ask for a new invitation")
    return identity, fleet
