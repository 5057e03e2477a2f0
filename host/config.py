"""Read an experiment file; whatever is wrong in it comes out as one line with file and line."""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from boardfront.host.experiment import (
    DataChoice,
    Experiment,
    FinalistSettings,
    SearchSettings,
    SpaceChoice,
    SupernetSettings,
    TableChoice,
    TargetSettings,
    TrainingSettings,
)
from boardfront.host.experiment_file import ExperimentFile
from boardfront.host.fleet.select import select
from boardfront.host.toml_lines import KeyPath, key_lines
from boardfront.protos.errors import WrongInputError
from boardfront.protos.records import TaskKind
from boardfront.search.algorithms import catalog as algorithms
from boardfront.search.objective import Objective, ObjectiveKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_experiment(path: str | Path) -> Experiment:
    """Read the experiment file at `path`.

    Raises:
        WrongInputError: The file cannot be read, or something in it is wrong. Of several wrong
            things one is told: an unknown key, or else the first in the file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise WrongInputError(
            f"{path}: expected an experiment file, got nothing readable ({reason}): "
            "check the path",
        ) from problem
    return parse_experiment(text, file=str(path))


def recall_experiment(text: str, *, file: str) -> Experiment:
    """Read the experiment of a run that began, whatever devices this machine knows.

    It was checked when the run began; only its form is checked here, and nothing heavy is loaded.

    Raises:
        WrongInputError: The text has not an experiment's form.
    """
    document = _parse(text, file)
    try:
        tables = ExperimentFile.model_validate(document)
    except ValidationError as problem:
        source = _Source(file, document, key_lines(text))
        raise source.explain(problem.errors(include_url=False)) from problem
    return _experiment(tables, Path(file))


def parse_experiment(text: str, *, file: str) -> Experiment:
    """Read an experiment from TOML text; `file` names it in errors and, by its stem, the run.

    Raises:
        WrongInputError: Something in the text is wrong.
    """
    document = _parse(text, file)
    source = _Source(file, document, key_lines(text))
    try:
        tables = ExperimentFile.model_validate(document)
    except ValidationError as problem:
        raise source.explain(problem.errors(include_url=False)) from problem
    _check_estimator(tables, source)
    _check_names(tables, source)
    _check_devices(tables, source)
    _check_space(tables, source)
    return _experiment(tables, Path(file))


class _Source:
    """Where things stand in the file."""

    def __init__(self, file: str, document: dict[str, Any], lines: dict[KeyPath, int]) -> None:
        self._file = file
        self._document = document
        self._lines = lines

    def error(self, path: KeyPath, text: str) -> WrongInputError:
        """Make an error that stands at `path`, or at what is nearest above it."""
        return WrongInputError(f"{self._file}:{self._line(path)}: {text}")

    def explain(self, problems: Iterable[ErrorDetails]) -> WrongInputError:
        """Turn one problem into an error: an unknown key, or else the first in the file.

        A misspelt key is also a missing one; its own line helps more.
        """
        first = min(
            problems,
            key=lambda problem: (problem["type"] != "extra_forbidden", self._line(problem["loc"])),
        )
        path: KeyPath = first["loc"]
        key, table = path[-1], _table_name(path[:-1])
        if first["type"] == "extra_forbidden":
            return self.error(path, _unknown_key(str(key), table, _model_at(path[:-1])))
        if first["type"] == "missing":
            what = f"table {_table_name(path)}" if len(path) == 1 else f"key {key!r} in {table}"
            got = ", ".join(self._at(path[:-1])) or "nothing"
            return self.error(path, f"missing {what}: expected it beside {got}; add it")
        got = f"got {first['input']!r:.60}; change it"
        return self.error(
            path,
            f"wrong value for {key!r} in {table}: {_expected(first['msg'])}, {got}",
        )

    def _line(self, path: KeyPath) -> int:
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return 1

    def _at(self, path: KeyPath) -> Iterable[str]:
        place: Any = self._document
        for step in path:
            place = place[step]
        return place if isinstance(place, dict) else ()


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        told = str(problem)
        found = re.search(r"at line (\d+)", told)
        line = found.group(1) if found else text.rstrip().count("\n") + 1
        reason = re.sub(r" \(at [^)]*\)$", "", told)
        raise WrongInputError(
            f"{file}:{line}: expected valid TOML, got a syntax error ({reason}): correct the line",
        ) from problem


def _table_name(path: KeyPath) -> str:
    names = ".".join(str(step) for step in path if isinstance(step, str))
    if not names:
        return "the top of the file"
    is_array = isinstance(path[-1], int) or path in {("target",), ("objective",)}
    return f"[[{names}]]" if is_array else f"[{names}]"


def _expected(message: str) -> str:
    """Put pydantic's words into ours."""
    message = re.sub(r"^(Input|String|List) should ", "expected it to ", message)
    message = re.sub(r"dictionary or instance of \w+", "table", message)
    return message.removeprefix("Value error, ")


def _unknown_key(key: str, table: str, model: type[BaseModel] | None) -> str:
    known = sorted(model.model_fields) if model else []
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; remove it"
    return f"unknown key {key!r} in {table}: expected one of {', '.join(known)}{hint}"


def _model_at(path: KeyPath) -> type[BaseModel] | None:
    """Follow the file's form down to the table at `path`."""
    model: type[BaseModel] | None = ExperimentFile
    for step in path:
        if isinstance(step, str) and model is not None:
            annotation = model.model_fields[step].annotation
            inner = next(iter(get_args(annotation)), annotation)
            model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    return model


def _check_names(tables: ExperimentFile, source: _Source) -> None:
    """Check what the form cannot tell: names that refer to each other, one number to another."""
    _check_distinct([target.name for target in tables.target], "target", source)
    _check_distinct([objective.name for objective in tables.objective], "objective", source)
    _check_objectives(tables, source)
    search = tables.search
    if search.evaluations < search.population:
        raise source.error(
            ("search", "evaluations"),
            f"wrong value for 'evaluations' in [search]: expected at least the population of "
            f"{search.population}, got {search.evaluations}; change one of them",
        )
    _check_known(search.algorithm, algorithms.names(), ("search", "algorithm"), source)


def _check_estimator(tables: ExperimentFile, source: _Source) -> None:
    """Check that one table says where accuracy comes from."""
    if tables.supernet is None and tables.training is None:
        raise source.error(
            (),
            "missing table [supernet] or [training]: expected one of them, the first where "
            "networks inherit a supernet's weights, the second where each is trained alone; "
            "add one",
        )
    if tables.supernet is not None and tables.training is not None:
        raise source.error(
            ("training",),
            "two tables for accuracy: expected one of [supernet] and [training], got both; "
            "remove one",
        )


def _check_distinct(names: list[str], table: str, source: _Source) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise source.error(
                (table, i, "name"),
                f"duplicate name in [[{table}]]: expected each once, got {name!r} again; "
                "rename one",
            )


def _check_objectives(tables: ExperimentFile, source: _Source) -> None:
    targets = [target.name for target in tables.target]
    for i, objective in enumerate(tables.objective):
        if objective.kind == "latency":
            _check_known(objective.target, targets, ("objective", i, "target"), source)
            continue
        for key in ("target", "limit_ms"):
            if getattr(objective, key) is not None:
                raise source.error(
                    ("objective", i, key),
                    f"wrong key {key!r} in [[objective]]: expected it for a latency only, got it "
                    f"for {objective.name!r}; remove it",
                )
    if all(objective.kind != "accuracy" for objective in tables.objective):
        raise source.error(
            ("objective",),
            "missing objective: expected at least one of kind 'accuracy', got only latencies; "
            "add one",
        )


def _check_known(
    name: str | None,
    known: Iterable[str],
    path: KeyPath,
    source: _Source,
) -> None:
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(name or "", known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "choose one"
    got = "nothing" if name is None else repr(name)
    raise source.error(
        path,
        f"wrong value for {path[-1]!r} in {_table_name(path[:-1])}: expected one of "
        f"{', '.join(known)}, got {got}; {hint}",
    )


def _check_devices(tables: ExperimentFile, source: _Source) -> None:
    """Let the fleet file say whether it knows a target's device."""
    for i, target in enumerate(tables.target):
        if target.force_table and target.table is None:
            raise source.error(
                ("target", i, "force_table"),
                "wrong key 'force_table' in [[target]]: expected it beside 'table', got it alone; "
                "remove it",
            )
        for device in target.device:
            _check_device(device, ("target", i, "device"), source)


def _check_device(device: str, path: KeyPath, source: _Source) -> None:
    try:
        select(device)
    except WrongInputError as problem:
        raise source.error(path, f"wrong value for 'device' in [[target]]: {problem}") from problem


def _check_space(tables: ExperimentFile, source: _Source) -> None:
    """Let the space judge its own settings."""
    from boardfront.host.data import catalog as datasets
    from boardfront.search.spaces import catalog as spaces

    _check_known(tables.data.name, datasets.names(), ("data", "name"), source)
    settings = tables.space.model_extra or {}
    try:
        space = spaces.load(tables.space.name, settings)
    except WrongInputError as problem:
        key = _first_named(settings, str(problem))
        if tables.space.name not in spaces.names():
            key = "name"
        path: KeyPath = ("space", key) if key else ("space",)
        raise source.error(path, f"in [space]: {problem}") from problem
    if tables.supernet is not None and not spaces.info(tables.space.name).supernet:
        raise source.error(
            ("space", "name"),
            f"wrong value for 'name' in [space]: expected a space whose networks can share the "
            f"weights of a supernet, got {tables.space.name!r}; choose another space, or "
            f"[training] in place of [supernet]",
        )
    for i, target in enumerate(tables.target):
        if target.reference in {"space", "none"}:
            continue
        try:
            space.validate(target.reference)
        except WrongInputError as problem:
            raise source.error(
                ("target", i, "reference"),
                f"wrong value for 'reference' in [[target]]: expected 'space', 'none' or an "
                f"encoding of the space, got {target.reference!r}: {problem}",
            ) from problem


def _first_named(keys: Iterable[str], text: str) -> str | None:
    """Return the key that a text names first; what is expected instead is named behind it."""
    places = ((re.search(rf"\b{re.escape(key)}\b", text), key) for key in keys)
    found = [(match.start(), key) for match, key in places if match]
    return min(found)[1] if found else None


def _experiment(tables: ExperimentFile, file: Path) -> Experiment:
    return Experiment(
        name=tables.name or file.stem,
        seed=tables.seed,
        space=SpaceChoice(name=tables.space.name, settings=tables.space.model_extra or {}),
        data=DataChoice(**tables.data.model_dump()),
        supernet=None
        if tables.supernet is None
        else SupernetSettings(**tables.supernet.model_dump()),
        training=None
        if tables.training is None
        else TrainingSettings(**tables.training.model_dump()),
        search=SearchSettings(**tables.search.model_dump()),
        targets=tuple(
            TargetSettings(
                **{
                    **target.model_dump(),
                    "task": TaskKind(target.task),
                    "device": target.device[0] if len(target.device) == 1 else target.device,
                    "table": _table(target.table, file),
                }
            )
            for target in tables.target
        ),
        objectives=tuple(
            Objective(
                name=objective.name,
                kind=ObjectiveKind(objective.kind),
                target=objective.target,
                limit=None if objective.limit_ms is None else objective.limit_ms / 1000,
            )
            for objective in tables.objective
        ),
        finalists=FinalistSettings(**tables.finalists.model_dump()),
    )


def _table(name: str | None, file: Path) -> TableChoice | None:
    """Return which table is meant; `table_part.with_tables` reads it."""
    return None if name is None else TableChoice(name=name, file=file.parent / name)
