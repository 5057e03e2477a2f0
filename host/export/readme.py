"""The README of an exported network, for whoever builds it into a C program."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.export import c_example
from boardfront.host.export.facts import named
from boardfront.protos.records import TaskKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.export.facts import Facts, Port
    from boardfront.host.export.promise import Promise


def readme(facts: Facts, files: Sequence[tuple[str, str]], command: str) -> str:
    """Return the text.

    Args:
        facts: Of the network.
        files: Name and purpose of each.
        command: Measures the network again.
    """
    member, run = facts.member, facts.run
    parts = [
        f"# {member.encoding}",
        f"Network {member.index} of the front of run `{run.folder.path.name}` (space "
        f"`{run.experiment.space.name}`, data `{run.experiment.data.name}`), taken by "
        f"`{facts.pick.rule}`: {facts.pick.reason}. {text.format_count(member.params)} "
        f"parameters, {text.format_count(member.macs)} multiply-accumulates an image.",
        _table(("file", ""), [(f"`{name}`", purpose) for name, purpose in files]),
        "## The time it was promised",
        *_time(facts.promise, command),
        "## Input and output",
        _table(
            ("", "name", "type", "shape", "dimensions"),
            [_port_row("input", facts.source), _port_row("output", facts.sink)],
        ),
        *_normalisation(facts),
        "## From C",
        *_c(facts, files[0][0]),
        "## How right it is",
        *_accuracy(facts),
        "## What was checked",
        *_checked(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _time(promise: Promise, command: str) -> list[str]:
    time, target = promise.time, promise.target
    what = "A run" if target.task is TaskKind.INFERENCE else f"A {target.task.value}"
    parts = [
        f"**{what} takes {text.format_time(time.median_s)}** (95 % interval "
        f"{text.format_interval(time.low_s, time.high_s)}; verdict: {promise.verdict.value})."
    ]
    if promise.warning():
        parts.append(f"**{_capital(promise.warning())}.**")
    if promise.over_limit and promise.limit_s is not None:
        limit = text.format_time(promise.limit_s)
        parts.append(f"**It breaks the experiment's limit of {limit}.**")
    devices = ", ".join(promise.devices) or "a device whose name is no longer known"
    rows = [
        ("device", devices),
        ("backend", f"{target.backend} {promise.backend_version}".rstrip()),
        ("options", named(promise.options) or "the backend's own"),
        ("cores", promise.cpus or "the device's own choice"),
        ("batch", str(target.batch)),
        ("measured", promise.date),
        ("how", _how(promise)),
    ]
    parts.append(_table(("true for", ""), rows))
    parts.append(
        "On another device, backend, number of threads or set of cores it is another time. "
        f"Measure it there, or again here:\n\n```console\n$ {command}\n```"
    )
    return parts


def _how(promise: Promise) -> str:
    processes = len(promise.process_medians_s)
    how = (
        f"the network whole, in {processes} fresh process{'es' if processes != 1 else ''} one "
        "after the other; the median of their medians, and an interval that holds all of theirs"
    )
    if promise.reference:
        how += (
            f"; sampled in turn with the network {promise.reference}, divided by it and times "
            "what that takes on the quiet device"
        )
        if promise.time.raw_median_s is not None:
            how += f" (the clock itself said {text.format_time(promise.time.raw_median_s)})"
    return how


def _normalisation(facts: Facts) -> list[str]:
    batch, channels, height, width = facts.source.shape
    order = "one channel (grey)" if channels == 1 else f"{channels} channels, as in the data set"
    lines = [
        f"Images of {width} x {height} pixels, {order}, row by row, no padding; the batch is "
        f"always {batch}. Every value of channel *c* is normalised:",
        "```text\n"
        + "\n".join(
            f"x[{c}] = (p[{c}] - {mean:.9g}) / {std:.9g}"
            for c, (mean, std) in enumerate(zip(facts.mean, facts.std, strict=True))
        )
        + "\n```",
        "where p is the pixel from 0 to 1; of a byte from 0 to 255 it is `byte / 255.0`. The "
        f"output holds {facts.classes} scores an image, before softmax: the class is the index "
        "of the largest.",
    ]
    if math.prod(facts.sink.shape) != batch * facts.classes:
        lines.append("The output has further dimensions than batch and classes: see the table.")
    return lines


def _c(facts: Facts, model: str) -> list[str]:
    return [
        f"[{c_example.NAME}]({c_example.NAME}) is a whole program for ONNX Runtime's C API: it "
        "reads bytes, normalises, runs the network, prints scores and class. Set `ORT` to the "
        "folder of an ONNX Runtime release, which holds `include` and `lib`:",
        f"```sh\ncc -std=c99 -O2 {c_example.NAME} -o example -I $ORT/include -L $ORT/lib "
        f"-lonnxruntime\nLD_LIBRARY_PATH=$ORT/lib ./example {model} < images.raw\n```",
        "What it does with an image:",
        f"```c\n{c_example.core(facts, model)}```",
    ]


def _accuracy(facts: Facts) -> list[str]:
    member = facts.member
    return [
        f"{member.validation_accuracy:.2%} of the validation images, by which it was chosen, and "
        f"{member.test_accuracy:.2%} of the test images, by which nothing was chosen: "
        f"{facts.accuracy_note}."
    ]


def _checked(facts: Facts) -> list[str]:
    agreement = facts.agreement
    batches = ", ".join(map(str, agreement.batches))
    parts = [
        f"ONNX Runtime {agreement.onnxruntime} and torch {agreement.torch} computed "
        f"{agreement.inputs} drawn images (batches of {batches}): the outputs differ by at most "
        f"{agreement.max_abs_error:.2g}, and by {agreement.max_relative_error:.2g} of their norm "
        f"(above {agreement.limit:g} nothing is exported).",
        "torch's network was made again from the run's checkpoint. Its weights are bit by bit "
        "those of the file that the run measured; its batch-norm statistics, found again, "
        f"differed by {facts.statistics_error:.2g} of their norm, and the measured file's are in "
        "this one.",
    ]
    if facts.library is not None:
        parts.append(facts.library.words())
    parts.append(
        "`promise.json` says all of this to programs, with versions and the digest of the "
        f"experiment (`{facts.run.experiment_digest[:16]}`...); most of it stands in the ONNX "
        "file's metadata as well."
    )
    return parts


def _port_row(kind: str, port: Port) -> tuple[str, ...]:
    shape = " x ".join(map(str, port.shape))
    return (kind, f"`{port.name}`", port.dtype, shape, port.layout)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
