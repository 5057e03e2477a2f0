"""The arguments of `boardfront device`; each command's work is in `commands/`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations
from typing import Annotated

import typer

from boardfront.host import complete
from boardfront.host.app_options import (  # noqa: TC001 - typer reads annotations
    FleetFile,
    Json,
    Store,
)
from boardfront.host.paths import default_fleet, default_store

device_app = typer.Typer(
    help="Your boards: take them in, share them, look if they are well.",
    epilog="Example: boardfront device add 192.168.1.20:50051 --token TOKEN --name rock5b",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_Within = Annotated[
    float, typer.Option("--within", min=0.1, metavar="SECONDS", help="Longest wait for answers.")
]
_Target = Annotated[
    str,
    typer.Argument(
        metavar="NAME|HOST:PORT|local",
        help="The board: its name, or its address.",
        autocompletion=complete.devices,
    ),
]


@device_app.command(
    "add",
    epilog="Example: boardfront device add 192.168.1.20:50051 --token TOKEN --name rock5b "
    "--tag room=lab; or, through a tunnel: boardfront device add 127.0.0.1:50051 --name rock5b",
)
def _add(
    address: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="Of the board's agent, as seen from here.")
    ],
    *,
    token: Annotated[
        str,
        typer.Option(
            metavar="TOKEN|-",
            help="What `boardfront-agent enroll` printed on the board; - reads it from standard "
            "input. Without: an agent on loopback, e.g. through an SSH tunnel.",
        ),
    ] = "",
    name: Annotated[
        str, typer.Option(help="What you call it (default: what it calls itself).")
    ] = "",
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="What you say of it, e.g. room=lab; repeatable."),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Take the name, or the board, from an older entry."),
    ] = False,
    as_json: Json = False,
    fleet: FleetFile = None,
) -> int:
    """Take a board into the fleet file; with a token, enrol it (TLS)."""
    from boardfront.host.commands import device_add
    from boardfront.host.fleet.fleet_file import parse_tag

    return device_add.run(
        device_add.AddArguments(
            address=address,
            token=token,
            name=name,
            tags=dict(parse_tag(text) for text in tag or ()),
            replace=replace,
            as_json=as_json,
            fleet=fleet or default_fleet(),
        )
    )


@device_app.command("list", epilog="Example: boardfront device list --json")
def _list(*, as_json: Json = False, fleet: FleetFile = None) -> int:
    """List the boards of the fleet file without asking them."""
    from boardfront.host.commands import device_list

    return device_list.run(fleet or default_fleet(), as_json=as_json)


@device_app.command("show", epilog="Example: boardfront device show rock5b")
def _show(device: _Target, *, as_json: Json = False, fleet: FleetFile = None) -> int:
    """Show all that the fleet file and a board itself say of it."""
    from boardfront.host.commands import device_show

    return device_show.run(device, fleet or default_fleet(), as_json=as_json)


@device_app.command("remove", epilog="Example: boardfront device remove rock5b")
def _remove(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The board in the fleet file.",
            autocompletion=complete.boards,
        ),
    ],
    *,
    as_json: Json = False,
    fleet: FleetFile = None,
) -> int:
    """Take a board out of the fleet file."""
    from boardfront.host.commands import device_list

    return device_list.run_remove(name, fleet or default_fleet(), as_json=as_json)


@device_app.command(
    "discover",
    epilog="Example: boardfront device discover; boards answer that run "
    "boardfront-agent serve --announce, or enroll --announce",
)
def _discover(*, within: _Within = 3.0, as_json: Json = False, fleet: FleetFile = None) -> int:
    """Look for agents in this network by mDNS; changes nothing."""
    from boardfront.host.commands import device_discover

    return device_discover.run(fleet or default_fleet(), within_s=within, as_json=as_json)


@device_app.command(
    "verify", epilog="Example: boardfront device verify 192.168.1.20:50051 --sample 20"
)
def _verify(
    device: _Target,
    *,
    sample: Annotated[int, typer.Option(min=1, help="How many are measured again.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the random sample.")] = 0,
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
) -> int:
    """Measure a sample of the store again; 1 if one is off by 2 %."""
    from boardfront.host.commands import device as command

    return command.run_verify(
        command.VerifyArguments(
            device=device,
            sample=sample,
            seed=seed,
            as_json=as_json,
            store=store or default_store(),
            fleet=fleet or default_fleet(),
        )
    )


@device_app.command("doctor", epilog="Example: boardfront device doctor rock5b")
def _doctor(
    device: _Target,
    *,
    sentinel: Annotated[
        bool,
        typer.Option(
            "--sentinel/--no-sentinel", help="Time the agent's own network, to see drift."
        ),
    ] = True,
    backend: Annotated[
        str,
        typer.Option(
            help="What times it (default: onnxruntime, or another that measures).",
            autocompletion=complete.backends,
        ),
    ] = "",
    as_json: Json = False,
    store: Store = None,
    fleet: FleetFile = None,
) -> int:
    """Check what would bend a board's numbers; 1 if there is any."""
    from boardfront.host.commands import device_doctor

    return device_doctor.run(
        device_doctor.DoctorArguments(
            device=device,
            sentinel=sentinel,
            backend=backend,
            as_json=as_json,
            store=store or default_store(),
            fleet=fleet or default_fleet(),
        )
    )


@device_app.command("rotate", epilog="Example: boardfront device rotate --all")
def _rotate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Boards in the fleet file.", autocompletion=complete.boards
        ),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All enrolled boards.")] = False,
    own: Annotated[
        bool,
        typer.Option("--own", help="This host's own certificate, which is renewed by itself."),
    ] = False,
    as_json: Json = False,
    fleet: FleetFile = None,
) -> int:
    """Give boards new keys and certificates while they work."""
    from boardfront.host.commands import device_certificates

    return device_certificates.run_rotate(
        names or (), fleet or default_fleet(), every=every, own=own, as_json=as_json
    )


@device_app.command("revoke", epilog="Example: boardfront device revoke anna@workstation")
def _revoke(
    who: Annotated[
        str,
        typer.Argument(
            metavar="NAME|SERIAL", help="Whose certificates, as in `device invite`; or one serial."
        ),
    ],
    *,
    as_json: Json = False,
    fleet: FleetFile = None,
) -> int:
    """Refuse somebody's certificates; 1 if a board was not told."""
    from boardfront.host.commands import device_certificates

    return device_certificates.run_revoke(who, fleet or default_fleet(), as_json=as_json)


@device_app.command(
    "invite", epilog="Example: boardfront device invite anna@workstation -o anna.invitation"
)
def _invite(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Who is invited; boards show it at a lease.")
    ],
    *,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; carry it by a safe way."),
    ],
    admin: Annotated[
        bool, typer.Option("--admin", help="Boards obey it about certificates too.")
    ] = False,
    as_json: Json = False,
    fleet: FleetFile = None,
) -> int:
    """Write one file that lets another person use the fleet's boards."""
    from boardfront.host.commands import device_share

    return device_share.run_invite(
        name, output, fleet or default_fleet(), admin=admin, as_json=as_json
    )


@device_app.command("join", epilog="Example: boardfront device join anna.invitation")
def _join(
    invitation: Annotated[
        Path, typer.Argument(metavar="FILE", help="Of `boardfront device invite`.")
    ],
    *,
    as_json: Json = False,
    fleet: FleetFile = None,
) -> int:
    """Use an invitation: its certificate and its boards."""
    from boardfront.host.commands import device_share

    return device_share.run_join(invitation, fleet or default_fleet(), as_json=as_json)
