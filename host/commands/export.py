"""`boardfront export`: one network of a finished run, as files for a product."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boardfront.protos.errors import BoardfrontError, WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from boardfront.host.export.facts import Facts
    from boardfront.host.export.finished import FinishedRun
    from boardfront.host.export.package import Contents
    from boardfront.host.export.pick import Pick
    from boardfront.host.export.promise import Promise
    from boardfront.host.export.verify import Verification
    from boardfront.host.progress import RunProgress


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportArguments:
    """What the person asked.

    Args:
        run: A run's folder or name, or `latest`.
        runs: Where runs are kept.
        output: The folder that is written.
        rule: Which network; None: the knee, or what `max_latency` says.
        max_latency: Such as `12ms`; empty for none.
        target: Whose times count; empty: the experiment's first.
        tvm: Whether to compile it for the target as well.
        verify: Whether to measure it again on the target.
        overwrite: Whether an earlier export may be replaced.
        as_json: Whether to print JSON.
        store: Where measurements are kept.
    """

    run: str
    runs: Path
    output: Path
    rule: str | None = None
    max_latency: str = ""
    target: str = ""
    tvm: bool = False
    verify: bool = False
    overwrite: bool = False
    as_json: bool = False
    store: str | Path


def run(arguments: ExportArguments) -> int:
    """Write the folder; return 0, or 1 where the promise was measured again and does not hold."""
    from boardfront.host.export.finished import read_finished
    from boardfront.host.export.package import check_place
    from boardfront.host.export.promise import make_promise
    from boardfront.host.progress import make_progress
    from boardfront.host.run_folder import find_run

    if arguments.rule is not None and arguments.max_latency:
        raise WrongInputError("--pick and --max-latency: expected one of them, got both")
    finished = read_finished(find_run(arguments.run, arguments.runs))
    target = finished.target(arguments.target)
    picked = _pick(arguments, finished, target.name)
    # The folder is moved into place: a path that is relative to it would not do.
    output = arguments.output.expanduser().absolute()
    check_place(output, overwrite=arguments.overwrite)
    progress = make_progress()
    try:
        promise = make_promise(finished, picked.member, target)
        contents = _make(finished, picked, promise, progress)
        facts = _write(contents, output, arguments, progress)
        found = None
        if arguments.verify:
            found = _verify(finished, contents, output, arguments, progress)
    finally:
        progress.close()
    if arguments.as_json:
        sys.stdout.write(json.dumps(_to_json(arguments, facts, contents, found), indent=2) + "\n")
    else:
        _print(arguments, facts, contents, found)
    return 0 if found is None or found.holds else 1


def _pick(arguments: ExportArguments, finished: FinishedRun, target: str) -> Pick:
    from boardfront.host.export.pick import KNEE, parse_time, pick, pick_within

    if arguments.max_latency:
        return pick_within(finished.members, target, parse_time(arguments.max_latency))
    return pick(finished.members, target, arguments.rule or KNEE)


def _make(
    finished: FinishedRun,
    picked: Pick,
    promise: Promise,
    progress: RunProgress,
) -> Contents:
    from boardfront.host.export.agreement import compare
    from boardfront.host.export.package import MODEL, Contents
    from boardfront.host.export.rebuild import rebuild
    from boardfront.host.finalists import write_deployable

    rebuilt = rebuild(finished, picked.member, progress)
    encoding = picked.member.encoding
    model = write_deployable(rebuilt.space, encoding, rebuilt.module, batch=promise.target.batch)
    return Contents(
        run=finished,
        pick=picked,
        promise=promise,
        rebuilt=rebuilt,
        model=model,
        agreement=compare(rebuilt.space, encoding, rebuilt.module, model),
        command=_measure_command(promise, MODEL),
    )


def _write(
    contents: Contents, output: Path, arguments: ExportArguments, progress: RunProgress
) -> Facts:
    from boardfront.host.export.package import new_folder, write

    library = None
    with new_folder(output) as part:
        if arguments.tvm:
            from boardfront.host.export.library import compile_for

            progress.say("compiling with TVM (half a minute and more)")
            library = compile_for(contents.model, contents.promise.target, part)
        return write(part, contents, library)


def _verify(
    finished: FinishedRun,
    contents: Contents,
    output: Path,
    arguments: ExportArguments,
    progress: RunProgress,
) -> Verification:
    from boardfront.host.export.package import MODEL
    from boardfront.host.export.verify import verify
    from boardfront.latency_models.store import MeasurementStore

    try:
        with MeasurementStore(arguments.store) as store:
            return verify(
                finished,
                contents.promise,
                contents.rebuilt.space,
                _read(output / MODEL),
                (store, progress),
            )
    except BoardfrontError as error:
        raise BoardfrontError(
            f"{arguments.output} is exported, and was not measured again: {error}"
        ) from error


def _read(path: Path) -> onnx.ModelProto:
    import onnx

    return onnx.load(path)


def _measure_command(promise: Promise, model: str) -> str:
    """Return what measures the network again where its time was promised."""
    target = promise.target
    device = target.device if isinstance(target.device, str) else target.device[0]
    words = ["boardfront", "measure", model, "--device", device, "--backend", target.backend]
    for name, value in target.options.items():
        words += ["--option", f"{name}={value}"]
    if target.cpus:
        words += ["--cpus", target.cpus]
    if target.task.value != "inference":
        words += ["--task", target.task.value]
    return shlex.join([*words, "--fresh"])


def _next(arguments: ExportArguments, contents: Contents) -> str:
    """Return the measuring command as it works from here, with the fleet file that was given."""
    from boardfront.host.export.package import MODEL

    command = _measure_command(contents.promise, str(arguments.output / MODEL))
    # Where `--fleet` is kept. Not in the exported README: it is a path of this machine.
    fleet = os.environ.get("BOARDFRONT_FLEET")
    if not fleet or contents.promise.target.device == "local":
        return command
    return f"{command} {shlex.join(['--fleet', fleet])}"


def _to_json(
    arguments: ExportArguments, facts: Facts, contents: Contents, found: Verification | None
) -> dict[str, Any]:
    from boardfront.host.export.facts import to_json
    from boardfront.latency_models import strict_json

    verified = None
    if found is not None:
        encoded = strict_json.encode(found)
        verified = {"holds": found.holds, **(encoded if isinstance(encoded, dict) else {})}
    return {
        "folder": str(arguments.output),
        **to_json(facts),
        "verified": verified,
        "next": _next(arguments, contents),
    }


def _print(
    arguments: ExportArguments, facts: Facts, contents: Contents, found: Verification | None
) -> None:
    from boardfront.host import text

    time, member, promise = facts.promise.time, facts.member, facts.promise
    lines = [
        ("network", f"{member.index}: {member.encoding} ({facts.pick.rule}: {facts.pick.reason})"),
        (
            "promised",
            f"{text.format_time(time.median_s)} on {promise.target.name} (95 % interval "
            f"{text.format_interval(time.low_s, time.high_s)}, {promise.verdict.value})",
        ),
    ]
    if promise.warning():
        lines.append(("", promise.warning()))
    if promise.over_limit:
        lines.append(("", "it breaks the experiment's limit"))
    lines += [
        (
            "accuracy",
            f"{member.validation_accuracy:.2%} validation, {member.test_accuracy:.2%} test, "
            f"{facts.accuracy_note}",
        ),
        (
            "checked",
            f"ONNX against torch on {facts.agreement.inputs} images: at most "
            f"{facts.agreement.max_abs_error:.2g}, {facts.agreement.max_relative_error:.2g} of "
            f"the norm (limit {facts.agreement.limit:g})",
        ),
    ]
    if facts.library is not None:
        lines.append(("library", facts.library.words().replace("`", "")))
    if found is not None:
        lines.append(("verified", found.words()))
    sys.stdout.write(f"exported to {arguments.output}\n")
    sys.stdout.write("".join(f"  {label:9} {value}\n" for label, value in lines))
    if found is None:
        sys.stdout.write(f"next: {_next(arguments, contents)}\n")
