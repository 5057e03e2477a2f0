"""A person's machine and boards, small, so that the commands of the documentation can be run.

The agents are real and local. Networks and experiments are small ones of the names that the pages
use, and commands that measure get options behind theirs that let them end soon (`_HURRY`).
"""

from __future__ import annotations

import configparser
import contextlib
import hashlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomlkit
from tests.device_agent.harness import AgentProcess, until
from tests.device_agent.onnx_files import conv_net
from tests.docs.blocks import ROOT
from tests.docs.command_lines import check_agent, programs
from tests.host.terminal import InTerminal

from boardfront.host.cli import main
from boardfront.host.config import parse_experiment
from boardfront.host.data import catalog as datasets
from boardfront.host.experiment_file import ExperimentFile
from boardfront.host.fleet.fleet_file import parse_fleet
from boardfront.host.paths import default_store
from boardfront.latency_models.store import MeasurementStore
from boardfront.latency_models.store_exchange import merge_store
from boardfront.search.spaces import catalog as spaces

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.docs.blocks import Block, Command
    from typing_extensions import Self

BOARDS = ("pi5", "rock5b")
_ADDRESSES = {"192.168.1.21:50051": "pi5", "192.168.1.20:50051": "rock5b"}
_TUNNEL = "127.0.0.1:50051"

_TINY_SPOS = {
    "resolution": 8,
    "stem_channels": 8,
    "stem_stride": 1,
    "stages": [[16, 2], [32, 2]],
    "last_channels": 32,
}
_PUBLISHED_TABLE = """\
Conv-input:224x224x3-output:112x112x32: {mean: 2.5, count: 50}
Logits-input:7x7x1280-output:1000: {mean: 0.25, count: 50}
"""
_FAST_LOOK = ("--duration", "0.05", "--precision", "0.4")

# Said behind a page's own options: of two, the later one counts.
_HURRY: dict[tuple[str, ...], tuple[str, ...]] = {
    ("measure",): (*_FAST_LOOK, "--no-sentinel"),
    ("compare",): _FAST_LOOK,
    ("table", "build"): (
        *("--backend", "fake", "--duration", "0.05", "--precision", "0.4", "--rounds", "0"),
        *("--calibration", "2", "--held-out", "2", "--repeats", "1"),
        *("--set", "resolution=8", "--set", "stem_channels=8", "--set", "stem_stride=1"),
        *("--set", "stages=[[16, 2]]", "--set", "last_channels=32"),
    ),
    ("table", "verify"): ("--duration", "0.05", "--precision", "0.4", "--networks", "1"),
    ("table", "transfer"): (
        *("--duration", "0.05", "--samples", "3", "--held-out", "2", "--repeats", "1"),
        *("--budget", "5m"),
    ),
    ("device", "doctor"): ("--no-sentinel",),
}


class World:
    """One person's folder; a page's blocks are run in it one after the other.

    Args:
        folder: Empty, or a copy of another world's.
        boards: Addresses of running agents by the names that the fleet file gives them.
        kept: Where tables that were built are kept for other worlds on these boards.
    """

    def __init__(self, folder: Path, boards: Mapping[str, str], kept: Path | None = None) -> None:
        self.folder = folder
        self._kept = kept
        self._boards = boards
        self._environment = {
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "BOARDFRONT_FLEET": str(folder / "fleet.toml"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
        }
        self._environment.pop("BOARDFRONT_STORE", None)

    def furnish(self) -> None:
        """Put there what the pages take for granted."""
        for name, seed in (("net", 1), ("a", 2), ("b", 3), ("light_resnet50", 4)):
            (self.folder / f"{name}.onnx").write_bytes(conv_net(seed=seed))
        (self.folder / "fleet.toml").write_text(fleet_text(self._boards))
        (self.folder / "mobile_trim.yaml").write_text(_PUBLISHED_TABLE)
        examples = self.folder / "examples"
        examples.mkdir()
        for path in (ROOT / "examples").glob("*.toml"):
            (examples / path.name).write_text(shrunk(path.read_text()))

    def __enter__(self) -> Self:
        self._before = {name: os.environ.get(name) for name in self._environment}
        self._folder_before = Path.cwd()
        self._on_end = signal.getsignal(signal.SIGTERM)
        os.environ.update(self._environment)
        os.environ.pop("BOARDFRONT_STORE", None)
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        sys.path.remove(str(self.folder))
        os.chdir(self._folder_before)
        signal.signal(signal.SIGTERM, self._on_end)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def do(self, block: Block) -> str:
        """Run a block, or read it where it is data; return what it printed."""
        if block.title:
            self._write(block)
        if block.not_run:
            return ""
        for text in block.beforehand:
            code, said = self._shell(text)
            assert code == 0, f"{text}: exit code {code}\n{said}"
        if block.keys:
            (command,) = block.commands
            return self._at_terminal(command, block)
        if block.commands:
            return "".join(
                self._command(command, block.exit_code if command is block.commands[-1] else 0)
                for command in block.commands
            )
        if block.language == "python":
            return self._python(block)
        return ""

    def _command(self, command: Command, expected: int) -> str:
        text = command.text
        for address, name in {**_ADDRESSES, _TUNNEL: "rock5b"}.items():
            text = text.replace(address, self._boards[name])
        (first, *more) = list(programs(text))
        if not more and first[0] == "boardfront" and not re.search(r"[|<>$*~]", text):
            code, said = self._boardfront(first[1:])
        else:
            code, said = self._shell(text)
        assert code == expected, f"line {command.line}: {text}: exit code {code}\n{said}"
        return said

    def _at_terminal(self, command: Command, block: Block) -> str:
        """Run what draws until a key is pressed; return what it wrote, codes left out."""
        shell = [shutil.which("bash") or "bash", "-c", command.text]
        into = re.search(r">> (\S+)$", command.text)

        def written() -> str:
            file = self.folder / into[1] if into else None
            return screen.text + (file.read_text() if file and file.exists() else "")

        with InTerminal(shell, cwd=self.folder) as screen:
            until(
                lambda: (
                    re.search(block.keys_once, written()) is not None
                    or screen.process.poll() is not None
                ),
                within_s=120.0,
            )
            # What ends by itself, as a short search does, needs no key any more.
            if screen.process.poll() is None and block.keys == "^C":
                os.killpg(screen.process.pid, signal.SIGINT)
            elif screen.process.poll() is None:
                screen.press(block.keys)
            code = screen.wait(within_s=120.0)
        said = written()
        assert code == block.exit_code, f"line {command.line}: {command.text}: {code}\n{said}"
        assert re.search(block.keys_once, said), f"line {command.line}: not written\n{said}"
        return said

    def _boardfront(self, words: list[str]) -> tuple[int, str]:
        said = io.StringIO()
        with (
            self._table_kept(words),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            code = main([*words, *_hurry(words)])
        return code, said.getvalue()

    @contextlib.contextmanager
    def _table_kept(self, words: list[str]) -> Iterator[None]:
        """Let a page that builds the table of another page go on where that one ended."""
        if words[:2] != ["table", "build"] or self._kept is None or "-o" not in words:
            yield
            return
        name = words[words.index("-o") + 1]
        kept = self._kept / f"{hashlib.sha256(repr(words).encode()).hexdigest()}.json"
        # A table without its measurements is refused.
        measured, store = kept.with_suffix(".db"), default_store()
        if kept.exists():
            shutil.copy(kept, name)
            with MeasurementStore(store) as mine:
                merge_store(mine, measured)
        yield
        shutil.copy(name, kept)
        with MeasurementStore(measured) as others:
            merge_store(others, store)

    def _shell(self, text: str) -> tuple[int, str]:
        for words in list(programs(text)):
            if words[0] == "boardfront" and _hurry(words[1:]):
                plain = " ".join(words)
                assert plain in text, f"cannot be hurried: {text}"
                text = text.replace(plain, f"{plain} {shlex.join(_hurry(words[1:]))}")
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-c", text],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        return done.returncode, done.stdout

    def _python(self, block: Block) -> str:
        said = io.StringIO()
        names: dict[str, Any] = {"__name__": "__documentation__"}
        code = compile("\n" * block.line + block.text, block.page, "exec")
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            # Libraries' announcements to their own developers, e.g. in torch's exporter.
            warnings.simplefilter("default", FutureWarning)
            exec(code, names)  # noqa: S102 - the page's own code
        return said.getvalue()

    def _write(self, block: Block) -> None:
        path = self.folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        text = block.text
        if block.language == "toml" and "search" in tomllib.loads(text):
            parse_experiment(text, file=block.title)
            text = shrunk(text)
        path.write_text(text)
        if path.name == "pyproject.toml":
            self._install(tomllib.loads(text)["project"])

    def _install(self, project: Mapping[str, Any]) -> None:
        """Do what `pip install --editable .` does: tell others the project's entry points."""
        info = self.folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        lines = []
        for group, entries in project["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {place}" for name, place in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def fleet_text(boards: Mapping[str, str]) -> str:
    """Return a fleet file of these addresses by name."""
    return "".join(
        f'[device.{name}]\naddress = "{address}"\ntags = {{ room = "lab" }}\n\n'
        for name, address in boards.items()
    )


def _hurry(words: list[str]) -> tuple[str, ...]:
    if "--help" in words:
        return ()
    for path, options in _HURRY.items():
        if tuple(words[: len(path)]) == path:
            return options
    return ()


def shrunk(text: str) -> str:
    """Return an experiment of the same tables that ends in seconds, on programmed times."""
    document = tomlkit.parse(text)
    space, search = document["space"], document["search"]
    if space["name"] == "spos":
        space.update(_TINY_SPOS)
    search.update({"population": 4, "evaluations": 8})
    for name in ("supernet", "training"):
        if name in document:
            document[name].update({"epochs": 1, "device": "cpu", "batch": 64})
    if "supernet" in document:
        document["supernet"]["recalibration_images"] = 64
    for target in document["target"]:
        target.update({"min_duration_s": 0.05, "precision": 0.4, "retries": 0})
        if target["backend"] in {"onnxruntime", "tvm"} and "table" not in target:
            target.update({"backend": "fake", "options": {}})
    for objective in document["objective"]:
        objective.pop("limit_ms", None)
    document["finalists"] = {"processes": 1, "precision": 0.4, "min_duration_s": 0.05}
    return tomlkit.dumps(document)


@contextlib.contextmanager
def board_agents(folder: Path, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run one agent a board; yield their addresses by name."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                AgentProcess(folder / name, options=("--name", name), environment=environment)
            ).address
            for name in BOARDS
        }


def read_data(block: Block) -> None:
    """Check what is neither code nor a command: TOML by what it is for, JSON, YAML, C, a unit."""
    if block.language == "toml":
        _read_toml(block)
    elif block.language == "json":
        import json

        json.loads(block.text)
    elif block.language == "yaml":
        import yaml

        yaml.safe_load(block.text)
    elif block.language == "c":
        _compile_c(block)
    elif block.language == "ini":
        _read_unit(block)


def _read_unit(block: Block) -> None:
    """Check what systemd is told to start: a full path, and options that the agent has."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.read_string(block.text)
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert program.startswith("/"), f"{block.where}: expected a full path, got {program}"
    assert program.endswith("/boardfront-agent"), f"{block.where}: {program}"
    check_agent(arguments)
    assert unit["Install"]["WantedBy"] == "multi-user.target", block.where


def _read_toml(block: Block) -> None:
    document = tomllib.loads(block.text)
    if "search" in document and "target" in document and _is_known(document):
        parse_experiment(block.text, file=block.where)
    elif "device" in document and isinstance(document["device"], dict):
        parse_fleet(block.text, Path(block.where))
    else:
        _read_part(document)


def _is_known(document: Mapping[str, Any]) -> bool:
    """Whether nothing in it is of a package that only the run of the page installs."""
    return document["space"]["name"] in spaces.SPACES and (
        document["data"]["name"] in datasets.DATASETS
    )


def _read_part(document: Mapping[str, Any]) -> None:
    """Read some tables of an experiment: each must be one that the whole file may have."""
    from pydantic import create_model

    fields = ExperimentFile.model_fields
    if not set(document) & set(fields):
        return
    part: dict[str, Any] = {name: (fields[name].annotation, ...) for name in document}
    create_model("Part", **part).model_validate(document)


def _compile_c(block: Block) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, f"{block.where}: no C compiler to check it with"
    done = subprocess.run(
        [compiler, "-x", "c", "-fsyntax-only", "-Wall", "-Werror", "-"],
        input=block.text,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
