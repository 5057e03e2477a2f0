"""Only what a command line needs is built: a command's options cost more than its import.

`app.py` says everything with typer; the library would read the signatures of all commands to run
one of them. Here the others stay names with a line of help.
"""

from __future__ import annotations

import copy
import inspect
import os
from typing import TYPE_CHECKING

from typer.core import TyperGroup, TyperOption
from typer.main import get_command

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from typer import Typer
    from typer.models import CommandInfo

_ASKED_BY_SHELL = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
"""Where a shell that completes puts the command line."""


def needed_group(app: Typer, arguments: Sequence[str]) -> TyperGroup:
    """Return the commands of an app, those whole that the arguments name.

    Args:
        app: All commands; it is left as it is.
        arguments: Of the command line. A word that happens to be a command's name costs time,
            and nothing else.
    """
    words = set(arguments)
    for name in _ASKED_BY_SHELL:
        words.update(os.environ.get(name, "").split())
    group = get_command(_lean(app, words))
    if not isinstance(group, TyperGroup):
        raise TypeError(f"expected an app of several commands, got {group!r}")
    for parameter in group.params:
        # `--install-completion` is what a person wants; who knows of the other one can use it.
        if isinstance(parameter, TyperOption) and parameter.name == "show_completion":
            parameter.hidden = True
    return group


def _lean(app: Typer, words: Collection[str]) -> Typer:
    lean = copy.copy(app)
    lean.registered_commands = [
        info if info.name in words else _placeholder(info) for info in app.registered_commands
    ]
    lean.registered_groups = []
    for info in app.registered_groups:
        group = copy.copy(info)
        if group.typer_instance is not None:
            inner = _lean(group.typer_instance, words)
            if info.name not in words:
                inner.registered_commands = []
                inner.registered_groups = []
            group.typer_instance = inner
        lean.registered_groups.append(group)
    return lean


def _placeholder(info: CommandInfo) -> CommandInfo:
    """Return a command that can be listed, and not run."""
    lean = copy.copy(info)
    lean.help = info.help or inspect.getdoc(info.callback)
    lean.callback = _nothing
    return lean


def _nothing() -> None:
    """Never called: a command that is called is named, and then it is whole."""
