"""`boardfront device doctor`: what can be checked of a board from here, with a remedy each."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import uuid
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from boardfront.host import text
from boardfront.host.commands.device_show import only
from boardfront.host.commands.devices import ask_lease
from boardfront.host.fleet import checkup
from boardfront.protos.errors import BoardfrontError, WrongInputError
from boardfront.protos.findings import (
    Finding,
    as_json,
    as_lines,
    exit_code,
    good,
    problem,
    warning,
)
from boardfront.protos.records import (
    Deadlines,
    Failure,
    Job,
    LeaseState,
    Origin,
    Purpose,
    Subject,
    Task,
    TaskKind,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from boardfront.host.fleet.client import AgentClient
    from boardfront.host.fleet.select import Selected
    from boardfront.latency_models.base import Measurement
    from boardfront.protos.records import (
        DeviceDescription,
        LeaseStatus,
        Result,
        TelemetrySample,
    )

_WITHIN_S = 150.0
_TELEMETRY_PERIOD_S = 0.5
_SENTINEL_DEADLINES = Deadlines(queue_s=20.0, compile_s=60.0, run_s=20.0)
_LEASE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorArguments:
    """What the person asked. `backend` times the sentinel; empty: one that measures."""

    device: str
    sentinel: bool
    backend: str = ""
    as_json: bool
    store: str | Path
    fleet: Path


def run(arguments: DoctorArguments) -> int:
    """Check everything, print the findings, and return 1 if one is a problem, else 0."""
    from rich.console import Console

    from boardfront.host.fleet.asking import ask_all

    selected = only(arguments.device, arguments.fleet)
    with Console(stderr=True).status(f"asking {selected.name}", refresh_per_second=2):
        (answer,) = ask_all(
            [selected],
            lambda device, client: list(_examine(arguments, device, client)),
            within_s=_WITHIN_S,
        )
    findings = [_unreachable(selected, answer)] if isinstance(answer, BoardfrontError) else answer
    if arguments.as_json:
        content = {"device": selected.name, **as_json(findings)}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(as_lines(findings)) + "\n")
    return exit_code(findings)


def _examine(
    arguments: DoctorArguments, device: Selected, client: AgentClient
) -> Iterator[Finding]:
    began_s = time.monotonic()
    description = client.describe()
    took = text.format_time(time.monotonic() - began_s)
    yield good("reachable", "it answers", f"its description took {took}")
    yield checkup.identity(description, device.entry)
    yield checkup.versions(description, _own_version())
    yield from _certificates(device)
    sample, offset_s, error_s = _telemetry(client)
    yield checkup.clock(offset_s, error_s)
    yield from checkup.backends(description)
    yield checkup.default_cores(description)
    yield checkup.governor(description)
    yield checkup.temperature(sample)
    yield checkup.load(sample)
    lease = ask_lease(client)
    yield checkup.lease(lease)
    if arguments.sentinel:
        yield _sentinel(arguments, client, description, lease)


def _unreachable(selected: Selected, error: BoardfrontError) -> Finding:
    name = "versions" if isinstance(error, WrongInputError) else "reachable"
    return problem(
        name,
        "it answers, but not as it should" if name == "versions" else "no check could be made",
        str(error),
        f"boardfront-agent doctor on {selected.name}, and look at its agent's log",
    )


def _certificates(device: Selected) -> Iterator[Finding]:
    from boardfront.host.fleet.credentials import now_utc, read_client

    name = device.entry.name if device.entry else device.name
    credentials = device.address.credentials
    yield checkup.certificate(
        "certificate",
        None if credentials is None else _shown_until(device),
        now_utc(),
        f"the fleet's owner: boardfront device rotate {name}",
    )
    if credentials is None:
        return
    own = read_client(credentials.folder)
    if own is not None:
        yield checkup.certificate(
            "your certificate",
            own.not_after,
            now_utc(),
            "the fleet's owner: boardfront device rotate --own, or a new invitation for you",
        )


def _shown_until(device: Selected) -> datetime | None:
    """Return until when the certificate is good that the board shows now."""
    from cryptography import x509

    from boardfront.host.fleet.handshake import shown_certificate

    try:
        shown = shown_certificate(device.address.resolve(), device.address.credentials)
    except OSError:
        return device.entry.certificate_not_after if device.entry else None
    return x509.load_der_x509_certificate(shown).not_valid_after_utc


def _telemetry(client: AgentClient) -> tuple[TelemetrySample, float, float]:
    """Return the board's state, its clock minus ours, and how well that is known, in seconds."""
    with contextlib.closing(client.telemetry(_TELEMETRY_PERIOD_S)) as samples:  # type: ignore[type-var]
        asked_unix_s = time.time()
        first = next(samples)
        heard_unix_s = time.time()
        # Loads are known from the second on: they are differences.
        second = next(samples)
    error_s = (heard_unix_s - asked_unix_s) / 2
    return second, first.time_unix_s - (asked_unix_s + error_s), error_s


def _sentinel(
    arguments: DoctorArguments,
    client: AgentClient,
    description: DeviceDescription,
    lease: LeaseStatus | None,
) -> Finding:
    """Time the agent's own network and compare it with its last good time; nothing is stored."""
    remedy = "boardfront device doctor again when it is free"
    if lease is not None and (lease.holder is not None or lease.waiting):
        return warning("sentinel", "not timed: somebody has the board", "", remedy)
    backend = _sentinel_backend(arguments.backend, description)
    if backend is None:
        known = ", ".join(info.name for info in description.backends if info.available)
        return warning(
            "sentinel",
            "not timed: no backend for it",
            f"expected one that runs inference, got {arguments.backend or known or 'none'}",
            "see the backends above; --backend NAME chooses one",
        )
    outcome = _time_sentinel(client, description, backend, leases=lease is not None)
    if outcome is None:
        return warning("sentinel", "not timed: somebody has taken the board", "", remedy)
    if isinstance(outcome, Failure):
        return problem(
            "sentinel",
            f"{backend} cannot time it",
            f"{outcome.kind.value}: {outcome.message}",
            "boardfront-agent doctor on the board",
        )
    return _judge(outcome, _last_good(arguments.store, description, outcome))


def _sentinel_backend(wanted: str, description: DeviceDescription) -> str | None:
    usable = [
        info
        for info in description.backends
        if info.available and TaskKind.INFERENCE in info.tasks
    ]
    if wanted:
        return next((info.name for info in usable if info.name == wanted), None)
    names = [info.name for info in usable if info.origin is Origin.MEASURED]
    return "onnxruntime" if "onnxruntime" in names else next(iter(names), None)


def _time_sentinel(
    client: AgentClient, description: DeviceDescription, backend: str, *, leases: bool
) -> Result | Failure | None:
    """Return how long the sentinel takes; None if the board is not free any more."""
    from boardfront.host.fleet.lease import lease_request
    from boardfront.host.fleet.sentinel import LOOK

    job = Job(
        job_id=uuid.uuid4().hex,
        subjects=(
            Subject(subject_id="s0", artifact_sha256=description.sentinel_sha256, backend=backend),
        ),
        task=Task(),
        precision=LOOK,
        deadlines=_SENTINEL_DEADLINES,
        purpose=Purpose.SENTINEL,
    )
    request = lease_request("device doctor", duration_s=_LEASE_S)
    try:
        if leases:
            reply = client.acquire_lease(request)
            if reply.state is not LeaseState.HELD:
                return None
            job = replace(job, fencing_token=reply.fencing_token)
        answers = client.run(job, {}, lambda _: None)
        client.acknowledge(job.job_id)
    finally:
        if leases:
            with contextlib.suppress(BoardfrontError):
                client.release_lease(request.lease_id)
    return answers["s0"]


def _last_good(
    store_place: str | Path, description: DeviceDescription, result: Result
) -> Measurement | None:
    from boardfront.host.fleet.sentinel import last_good
    from boardfront.latency_models.key import TimeKey
    from boardfront.latency_models.store import MeasurementStore

    key = TimeKey.of_target(
        result.target,
        structure_hash=description.sentinel_sha256,
        task=Task(),
        input_shapes={},
        origin=result.origin,
    )
    with MeasurementStore(store_place) as store:
        return last_good(store, description.device_id, key)


def _judge(now: Result, before: Measurement | None) -> Finding:
    from boardfront.host.fleet.sentinel import MAX_SHIFT, is_shifted

    median_s = now.statistics.median_s
    seen = f"{text.format_time(median_s)} on {now.target.backend}"
    if now.verdict is not Verdict.OK:
        return warning(
            "sentinel",
            f"tells nothing about drift: {now.verdict.value}",
            f"{seen}; {'; '.join(now.evidence)}",
            "see load, temperature and governor above",
        )
    if before is None or before.result is None:
        return good("sentinel", "timed for the first time from here", seen)
    shift = median_s / before.result.statistics.median_s - 1.0
    seen = f"{seen}, {shift:+.1%} against before"
    if not is_shifted(before, replace(before, outcome=now)):
        return good("sentinel", "as before", seen)
    return problem(
        "sentinel",
        f"the board's level has moved by more than {MAX_SHIFT:.0%}",
        seen,
        "find out what changed (heat, power supply, another program); then boardfront device "
        "verify says which stored times still hold",
    )


def _own_version() -> str:
    try:
        return version("boardfront")
    except PackageNotFoundError:
        return "not installed"
