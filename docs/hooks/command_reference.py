"""Pages of the command lines, made of the code that parses them."""

from __future__ import annotations

import argparse
import re
from typing import Any

import typer
import typer.main

from boardfront.device_agent.cli import _parser
from boardfront.host.app import app


def boardfront_page() -> str:
    """Return the reference of `boardfront`, in Markdown."""
    group = typer.main.get_command(app)
    lines = [
        "# boardfront",
        "",
        "Made from the code that parses the command line. `--help` says the same; so does every "
        "command: `boardfront measure --help`.",
        "",
        "Errors are one line; `--debug` adds the traceback. Exit code 0: done, 1: failed (or what "
        "the command says of 1), 2: wrong input, 130: interrupted.",
        "",
        "| command | |",
        "|---|---|",
    ]
    commands = list(_leaves(group, ("boardfront",)))
    lines += [
        f"| [`{' '.join(path)}`](#{'-'.join(path)}) | {_first_line(command.help)} |"
        for path, command in commands
    ]
    for path, command in commands:
        lines += _command(path, command)
    return "\n".join(lines) + "\n"


def _leaves(command: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(path, command)]
    return [leaf for name, one in inner.items() for leaf in _leaves(one, (*path, name))]


def _command(path: tuple[str, ...], command: Any) -> list[str]:
    context = typer.Context(command, info_name=" ".join(path))
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = ["", f"## {' '.join(path)} {{#{'-'.join(path)}}}", "", _cell(command.help or ""), ""]
    lines += ["```text", " ".join(usage.split()), "```", ""]
    rows = [_parameter(one, context) for one in command.get_params(context) if not one.hidden]
    lines += ["| | default | |", "|---|---|---|", *rows]
    if command.epilog:
        examples = re.split(r"(?<=\S); (?:or, [^:]+: |or )", _cell(command.epilog))
        lines += ["", " or ".join(_as_code(text) for text in examples)]
    return lines


def _as_code(text: str) -> str:
    """Put the command inside an epilog into code."""
    found = re.match(r"(?P<said>Example: )?(?P<code>boardfront [^;]*?)(?P<rest>(\.|;) .*)?$", text)
    if found is None:
        return text
    return f"{found['said'] or ''}`{found['code']}`{found['rest'] or ''}"


def _parameter(one: Any, context: typer.Context) -> str:
    if one.param_type_name == "argument":
        metavar = one.metavar or one.name.upper()
        names, default = f"`{metavar}`", ""
    else:
        flags = [*one.opts, *one.secondary_opts]
        value = "" if one.is_flag else f" {one.metavar or one.display_type(context)}"
        names = ", ".join(f"`{flag}{value}`" for flag in flags)
        default = _default(one)
    meaning = ("**needed** " if one.required else "") + _cell(one.help or "")
    return f"| {_in_table(names)} | {_in_table(default)} | {_in_table(meaning)} |"


def _default(one: Any) -> str:
    if (
        one.required
        or one.name == "help"
        or one.default in (None, "", (), [])
        or callable(one.default)
    ):
        return ""
    if one.is_flag:
        return f"`{one.opts[0]}`" if one.default and one.secondary_opts else ""
    return f"`{one.default}`"


def agent_page() -> str:
    """Return the reference of `boardfront-agent`, in Markdown."""
    parser = _parser()
    lines = [
        "# boardfront-agent",
        "",
        "Runs on the device. Made from the code that parses the command line.",
        "",
        "| command | |",
        "|---|---|",
    ]
    found = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helps = {one.dest: one.help or "" for one in found._choices_actions}
    lines += [
        f"| [`{name}`](#{name}) | {_in_table(helps.get(name, ''))} |" for name in found.choices
    ]
    for name, command in found.choices.items():
        lines += ["", f"## boardfront-agent {name} {{#{name}}}", "", helps.get(name, ""), ""]
        lines += ["| | default | |", "|---|---|---|"]
        lines += [_agent_parameter(one) for one in command._actions]
        if command.epilog:
            lines += ["", re.sub(r"^example: (.*)$", r"Example: `\1`", command.epilog)]
    return "\n".join(lines) + "\n"


def _agent_parameter(one: argparse.Action) -> str:
    value = ""
    if one.nargs != 0:
        choices = "{" + ",".join(map(str, one.choices)) + "}" if one.choices else ""
        value = f" {one.metavar or choices or one.dest.upper()}"
        if one.nargs == "?":
            value = f" [{value.strip()}]"
    names = (
        ", ".join(f"`{flag}{value}`" for flag in one.option_strings)
        or f"`{one.metavar or one.dest}`"
    )
    default = ""
    if one.nargs != 0 and one.default not in (None, argparse.SUPPRESS):
        default = f"`{str(one.default).replace(str(_home()), '~')}`"
    said = (one.help or "").replace("%(default)s", str(one.default)).replace("%%", "%")
    return f"| {_in_table(names)} | {default} | {_in_table(_cell(said))} |"


def _home() -> object:
    from pathlib import Path

    return Path.home()


def _first_line(text: str | None) -> str:
    return _in_table(_cell((text or "").split("\n\n")[0]))


def _cell(text: str) -> str:
    """Return a text on one line; what looks like a tag is none."""
    return " ".join(text.replace("\b", "").split()).replace("<", "&lt;")


def _in_table(text: str) -> str:
    return text.replace("|", "\\|")
