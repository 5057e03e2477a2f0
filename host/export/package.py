"""Writing an export: the folder appears whole or not at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.host.export import c_example
from boardfront.host.export.facts import Facts, metadata, port, to_json
from boardfront.host.export.readme import readme
from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from boardfront.host.export.agreement import Agreement
    from boardfront.host.export.finished import FinishedRun
    from boardfront.host.export.library import Library
    from boardfront.host.export.pick import Pick
    from boardfront.host.export.promise import Promise
    from boardfront.host.export.rebuild import Rebuilt

MODEL = "model.onnx"
PROMISE = "promise.json"
README = "README.md"


class ExportError(BoardfrontError):
    """The files cannot be written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What goes into the folder.

    Args:
        run: That it comes from.
        pick: The network.
        promise: Its time.
        rebuilt: As torch has it.
        model: As ONNX, without metadata.
        agreement: Between the two.
        command: Measures it again.
    """

    run: FinishedRun
    pick: Pick
    promise: Promise
    rebuilt: Rebuilt
    model: onnx.ModelProto
    agreement: Agreement
    command: str

    def facts(self, library: Library | None) -> Facts:
        """Return all that is told of it."""
        graph = self.model.graph
        return Facts(
            run=self.run,
            pick=self.pick,
            promise=self.promise,
            agreement=self.agreement,
            statistics_error=self.rebuilt.statistics_error,
            mean=self.rebuilt.mean,
            std=self.rebuilt.std,
            source=port(graph.input[0], "batch, channels, height, width (NCHW)"),
            sink=port(graph.output[0], "batch, classes"),
            library=library,
        )


def check_place(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that may not be written, before anything is computed.

    Raises:
        WrongInputError: If something is there that is not ours to replace.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise WrongInputError(f"-o {folder}: expected a folder or nothing there, got a file")
    if not any(folder.iterdir()):
        return
    if not (folder / PROMISE).is_file():
        raise WrongInputError(
            f"-o {folder}: expected an empty folder or none, got one with files that are no "
            "export: choose another"
        )
    if not overwrite:
        raise WrongInputError(
            f"-o {folder}: an export is there: choose another folder, or --overwrite"
        )


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside the one that is wanted; it takes that one's place at the end.

    Raises:
        ExportError: If it cannot be written; nothing of it is left then.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as problem:
        raise _cannot_write(folder, problem) from problem
    try:
        yield part
        part.chmod(0o755)
        _take_place(part, folder)
    except OSError as problem:
        raise _cannot_write(folder, problem) from problem
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write(part: Path, contents: Contents, library: Library | None) -> Facts:
    """Write the files of an export into a folder.

    Args:
        part: An empty folder, or one with the library.
        contents: What is written.
        library: What lies in the folder already.
    """
    facts = contents.facts(library)
    model = type(contents.model)()
    model.CopyFrom(contents.model)
    for key, value in metadata(facts).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    (part / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    (part / c_example.NAME).write_text(c_example.program(facts, MODEL), encoding="utf-8")
    (part / PROMISE).write_text(json.dumps(to_json(facts), indent=2) + "\n", encoding="utf-8")
    text = readme(facts, _files(library), contents.command)
    (part / README).write_text(text, encoding="utf-8")
    return facts


def _files(library: Library | None) -> list[tuple[str, str]]:
    files = [
        (MODEL, "the network with its weights, opset 18"),
        (c_example.NAME, "runs it from C"),
        (PROMISE, "this page for programs"),
    ]
    if library is not None:
        files.insert(1, (library.file, "the network as machine code, to be run by TVM's runtime"))
    return files


def _take_place(part: Path, folder: Path) -> None:
    """Put a finished folder where it belongs; what is replaced goes last."""
    if not folder.exists():
        part.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.rename(old / "export")
    try:
        part.rename(folder)
    except OSError:
        (old / "export").rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _cannot_write(folder: Path, problem: OSError) -> ExportError:
    return ExportError(
        f"-o {folder}: cannot be written ({problem.strerror or problem}): check rights and free "
        "space, or choose another folder; nothing of it is left"
    )
