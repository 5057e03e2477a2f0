"""Puts clocks back: what was changed is on the disk, and a guardian outlives the agent.

Every value is written to a file before its first change. The guardian, which is this module run
as a program, waits for the end of the agent on a pipe and puts the values back if the agent did
not. Where both were killed, the agent's next start does it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from boardfront.device_agent import sysfs
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RESTORE_FILE = "clocks-to-restore.json"
"""In the state folder, as long as there is something to put back."""

_CLAIM_WITHIN_S = 5.0
GUARDIAN_WITHIN_S = 10.0
_PASSES = 3
"""A limit may be refused until another one is back: a minimum over the maximum, a boosted maximum
without boost."""
_RESTORABLE = re.compile(
    r"sys/devices/system/cpu/(intel_pstate/no_turbo|cpufreq/boost"
    r"|cpufreq/policy\d+/scaling_(governor|min_freq|max_freq))"
    r"|sys/class/devfreq/[^/]+/governor"
)
"""Nothing else is ever written, whatever somebody put into the file: the agent may be root."""
_WHAT_TO_DO = {
    errno.EACCES: "run the agent with sudo, or let its user write it (docs/agent.md)",
    errno.EPERM: "run the agent with sudo, or let its user write it (docs/agent.md)",
    errno.EROFS: "run the agent outside the container, or give it a writable /sys",
}


class ClocksInUseError(BoardfrontError):
    """Another agent holds the clocks of this machine."""


def restore(root: Path, state: Path) -> tuple[str, ...]:
    """Put back the values of the restore file, last changed first; return a line a failure.

    What could not be put back stays in the file. Without a file there is nothing to do.
    """
    left = load(root, state)
    failures: list[str] = []
    for _ in range(_PASSES):
        failures = []
        for name, value in reversed(left.items()):
            path = root / name
            # What is gone, such as the policy of cores that were switched off, starts afresh.
            if path.exists() and sysfs.read_text(path) != value:
                line = write_value(path, value)
                if line is not None:
                    failures.append(f"not put back: {line}")
        if all(sysfs.read_text(root / name) == value for name, value in left.items()):
            break
    if failures:
        save(root, state, left)
        return in_few_lines(failures)
    (state / RESTORE_FILE).unlink(missing_ok=True)
    return ()


def write_value(path: Path, value: str) -> str | None:
    """Write a value that differs from the present one; return a line if it was refused."""
    if sysfs.read_text(path) == value:
        return None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{value}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        to_do = _WHAT_TO_DO.get(error.errno or 0, "the kernel's log (dmesg) may say more")
        return f"{path}: cannot be set to {value} ({error.strerror}): {to_do}"
    return None


def in_few_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """Keep the first of the lines that give the same reason, and say how many files more."""
    alike: dict[str, list[str]] = {}
    for line in lines:
        alike.setdefault(re.sub(r"\S*/\S+|to \S+ ", "", line), []).append(line)
    return tuple(
        group[0] + (f"; so it is with {len(group) - 1} more" if len(group) > 1 else "")
        for group in alike.values()
    )


def claim(root: Path) -> int:
    """Return a descriptor whose life keeps other agents off the clocks.

    Raises:
        ClocksInUseError: If another process has it for longer than a restoration takes.
        OSError: If there is no such folder.
    """
    # A folder of the kernel: the same for all users and all state folders of a machine.
    descriptor = os.open(root / sysfs.CPU, os.O_RDONLY | os.O_CLOEXEC)
    deadline_s = time.monotonic() + _CLAIM_WITHIN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline_s:
                time.sleep(0.05)
                continue
            os.close(descriptor)
            raise ClocksInUseError(
                "another agent holds the clocks of this machine: stop it first"
            ) from None
        return descriptor


def save(root: Path, state: Path, values: Mapping[str, str]) -> None:
    """Write the restore file; it is on the disk when this returns."""
    part = state / f"{RESTORE_FILE}.part"
    with part.open("w") as file:
        json.dump({"boot": _boot(root), "values": values}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(state / RESTORE_FILE)
    folder = os.open(state, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(root: Path, state: Path) -> dict[str, str]:
    """Return what is to be put back, by path under the root, in the order of its change."""
    try:
        content = json.loads((state / RESTORE_FILE).read_text())
        # The kernel that it was read from is gone, and the changes with it.
        if content["boot"] != _boot(root):
            return {}
        values = {str(name): str(value) for name, value in content["values"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: value for name, value in values.items() if _RESTORABLE.fullmatch(name)}


def _boot(root: Path) -> str | None:
    return sysfs.read_text(root / "proc/sys/kernel/random/boot_id")


def start_guardian(root: Path, state: Path, claimed: int) -> subprocess.Popen[bytes]:
    """Start the guardian; it watches when this returns.

    Raises:
        BoardfrontError: If it does not come up.
        OSError: If it cannot be started.
    """
    places = [str(path.resolve()) for path in (state, root)]
    # Blocked here, ignored there: it must not die between its start and its first line.
    with _blocked(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        guardian = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "boardfront.device_agent.clock_restore", "--guard", *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Whoever reads the agent's own must see its end when the agent ends.
            stderr=subprocess.DEVNULL,
            pass_fds=(claimed,),
            start_new_session=True,
        )
    if not _is_ready(guardian):
        guardian.kill()
        guardian.communicate()
        raise BoardfrontError(
            "the guardian that would put the clocks back did not start: see what "
            f"`{sys.executable} -m boardfront.device_agent.clock_restore` says"
        )
    return guardian


def _is_ready(guardian: subprocess.Popen[bytes]) -> bool:
    if guardian.stdout is None:
        return False
    with guardian.stdout as said:
        ready, _, _ = select.select([said], [], [], GUARDIAN_WITHIN_S)
        return bool(ready and said.readline())


@contextlib.contextmanager
def _blocked(*numbers: signal.Signals) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _guard(state: Path, root: Path) -> None:
    """Wait for the agent's end, then put back what it did not."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    os.write(1, b"ready\n")
    while os.read(0, 1024):
        pass
    restore(root, state)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "--guard":
        sys.exit("usage: python -m boardfront.device_agent.clock_restore --guard STATE ROOT")
    _guard(Path(sys.argv[2]), Path(sys.argv[3]))
