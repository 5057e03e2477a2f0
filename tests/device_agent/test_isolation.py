"""What a worker is kept from, tried by a process that wants it; each with a control that gets it.

A small program enters the isolation as the guard does and then becomes another one by exec, as
the guard starts the worker. Where the tests run as root, most of it is tried as the user `nobody`
too, because root's way into the namespaces is another one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.device_agent import harness

from boardfront.device_agent import isolation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOT = os.geteuid() == 0
_NOBODY, _GROUP = 65534, 54321
_SYSTEM_PYTHON = Path("/usr/bin/python3")
_ENTER = """
import os, sys
sys.path.append({folder!r})
import isolation
{before}
isolation.enter({mode!r}, {state!r})
os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", {then!r}])
"""


@dataclass(frozen=True)
class _Who:
    """Enters the isolation and runs a program there, as some user."""

    python: str
    user: dict[str, Any]

    def run(
        self,
        then: str,
        mode: str = isolation.ON,
        *,
        state: Path | None = None,
        before: str = "",
        groups: Sequence[int] = (),
    ) -> str:
        """Return what the program printed, the name of its error if it ended by one."""
        code = _ENTER.format(
            folder=str(Path(isolation.__file__).parent),
            before=before,
            mode=mode,
            state="" if state is None else str(state),
            then=then,
        )
        user = {**self.user, "extra_groups": groups} if self.user else {}
        done = subprocess.run(
            [self.python, "-I", "-S", "-c", code],
            capture_output=True,
            text=True,
            timeout=harness.WITHIN_S,
            check=False,
            cwd="/",
            **user,
        )
        text: str = done.stdout.strip() or done.stderr.strip().rpartition("\n")[2]
        return text


def _may_isolate(who: _Who) -> bool:
    return who.run("print('in')") == "in"


_SELF = _Who(sys.executable, {})
_OTHER = _Who(str(_SYSTEM_PYTHON), {"user": _NOBODY, "group": _NOBODY}) if _ROOT else None
_EVERYBODY = [pytest.param(_SELF, id="self")]
if _OTHER is not None and _SYSTEM_PYTHON.exists():
    _EVERYBODY.append(pytest.param(_OTHER, id="nobody"))

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not _may_isolate(_SELF), reason="this system gives no namespaces"),
]
everybody = pytest.mark.parametrize("who", _EVERYBODY)
as_nobody = pytest.mark.skipif(_OTHER is None, reason="only root can become another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="boardfront-test-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


@everybody
def test_there_is_no_way_to_the_network(who: _Who) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        dial = (
            f"import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('through')"
        )
        assert who.run(dial, isolation.OFF) == "through"
        assert "ConnectionRefusedError" in who.run(dial)
    # An address that no machine has: known to be unreachable at once, because there is no route.
    away = "import socket; socket.create_connection(('192.0.2.1', 9), 2)"
    assert "Network is unreachable" in who.run(away)
    names = "import socket; print([name for _, name in socket.if_nameindex()])"
    assert who.run(names) == "['lo']"


@everybody
def test_what_belongs_to_one_worker_may_still_talk(who: _Who) -> None:
    talk = (
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname(), 2).sendall(b'hello')\n"
        "print(server.accept()[0].recv(5))"
    )
    assert who.run(talk) == "b'hello'"


@everybody
def test_nobody_can_go_back_to_the_agents_namespaces(who: _Who) -> None:
    back = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "try:\n    fd = os.open(f'/proc/{PID}/ns/net', os.O_RDONLY)\n"
        "except PermissionError:\n    print('refused')\nelse:\n"
        "    print('back' if libc.setns(fd, 0) == 0 else 'refused')"
    ).replace("PID", str(os.getpid()))
    assert who.run(back) == "refused"


@as_nobody
def test_setuid_gains_nothing(place: Path) -> None:
    assert _OTHER is not None
    program = place / "id"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    ask = f"import os; os.execv({str(program)!r}, ['id', '-u'])"
    plain = subprocess.run(
        [str(program), "-u"], user=_NOBODY, capture_output=True, text=True, check=True
    )
    assert plain.stdout.strip() == "0"
    # In every mode: the namespaces have no part in it.
    assert _OTHER.run(ask, isolation.OFF) == str(_NOBODY)
    assert _OTHER.run(ask) == str(_NOBODY)


@everybody
@pytest.mark.parametrize("mode", [isolation.OFF, isolation.ON])
def test_the_kernel_says_that_no_rights_can_be_gained(who: _Who, mode: str) -> None:
    ask = "print([x for x in open('/proc/self/status') if 'NoNewPrivs' in x][0].split()[1])"
    assert who.run(ask, mode) == "1"


@everybody
def test_no_right_of_an_administrator_is_left(who: _Who) -> None:
    ask = "print([x for x in open('/proc/self/status') if 'CapEff' in x][0].split()[1])"
    left = int(who.run(ask), 16)
    if who is _OTHER or not _ROOT:
        assert left == 0
    else:
        assert all(not left >> number & 1 for number in (19, 21, 22))
        # Root goes on reading other users' files, e.g. an interpreter in somebody's home.
        assert left >> 1 & 1


@everybody
def test_files_threads_and_sizes_have_bounds(who: _Who, place: Path) -> None:
    ask = (
        "import json, resource as r\n"
        "print(json.dumps([r.getrlimit(getattr(r, 'RLIMIT_' + x)) for x in "
        "('FSIZE', 'NOFILE', 'NPROC')]))"
    )
    size, files, tasks = json.loads(who.run(ask))
    assert size == [isolation.FILE_BYTES] * 2
    assert 0 < files[0] == files[1] <= isolation.OPEN_FILES
    # Root's are not counted by the kernel, nor apart from the user's others before Linux 5.14.
    if _counts_tasks(who):
        assert 0 < tasks[0] == tasks[1] <= isolation.TASKS
    sparse = f"import os; os.truncate(os.open({str(place / 'f')!r}, 65), {{}}); print('written')"
    sparse = sparse.replace("os.truncate", "os.ftruncate")
    assert who.run(sparse.format(isolation.FILE_BYTES)) == "written"
    assert "File too large" in who.run(sparse.format(isolation.FILE_BYTES + 1))


def _counts_tasks(who: _Who) -> bool:
    return isolation._kernel() >= (5, 14) and (who is _OTHER or not _ROOT)


@everybody
def test_a_limit_that_was_lower_stays(who: _Who) -> None:
    ask = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    lower = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))"
    assert who.run(ask, before=lower) == "(200, 200)"


@pytest.mark.skipif(not _counts_tasks(_OTHER or _SELF), reason="the kernel does not count them")
@pytest.mark.parametrize(("tasks", "outcome"), [(20, "refused"), (200, "started")])
def test_a_fork_bomb_stops(tasks: int, outcome: str) -> None:
    bomb = (
        "import subprocess\nchildren = []\ntry:\n    for _ in range(40):\n"
        "        children.append(subprocess.Popen(['/bin/sleep', '60']))\n    print('started')\n"
        "except BlockingIOError:\n    print('refused')\nfor child in children:\n    child.kill()"
    )
    who = _OTHER or _SELF
    assert who.run(bomb, before=f"isolation.TASKS = {tasks}") == outcome


@as_nobody
def test_the_groups_that_open_device_files_still_count(place: Path) -> None:
    assert _OTHER is not None
    # The kernel's null device under another name, with the rights of a GPU's or NPU's file.
    node = place / "renderD128"
    os.mknod(node, 0o020660, os.makedev(1, 3))
    os.chown(node, 0, _GROUP)
    node.chmod(0o660)
    use = f"open({str(node)!r}, 'r+b', 0).write(b'x'); print('used')"
    assert "PermissionError" in _OTHER.run(use)
    assert _OTHER.run(use, groups=[_GROUP]) == "used"
    # It is so though the group has no name in the namespace.
    groups = _OTHER.run("import os; print(os.getgroups())", groups=[_GROUP])
    assert str(_GROUP) not in groups


def _state(place: Path) -> Path:
    state = place / "state"
    for name in ("jobs", isolation.WRITABLE, *isolation.HIDDEN):
        (state / name).mkdir(parents=True)
        (state / name / "old").write_text("old")
    if _ROOT:
        for path in (state, *state.rglob("*")):
            os.chown(path, _NOBODY, _NOBODY)
    return state


_TRY_FILES = """
import os
def outcome(action):
    try:
        return action()
    except OSError as error:
        return os.strerror(error.errno)
def write(path):
    with open(path, "w") as file:
        file.write("new")
    return "written"
state = {state!r}
print([
    outcome(lambda: write(state + "/jobs/old")),
    outcome(lambda: write(state + "/jobs/new")),
    outcome(lambda: write(state + "/tuning/new")),
    outcome(lambda: open(state + "/jobs/old").read()),
    outcome(lambda: open(state + "/credentials/old").read()),
    outcome(lambda: os.rename(state + "/jobs", state + "/tuning/jobs")),
    outcome(lambda: write({outside!r})),
])
"""


@everybody
def test_the_agents_folder_is_read_and_its_keys_are_not(who: _Who, place: Path) -> None:
    state, outside = _state(place), place / "outside"
    code = _TRY_FILES.format(state=str(state), outside=str(outside))
    sealed = who.run(code, state=state)
    read_only = "Read-only file system"
    expected = [read_only, read_only, "written", "old", "No such file or directory"]
    assert sealed.startswith(str(expected)[:-1])
    assert sealed.endswith("'written']")
    assert "Invalid cross-device link" in sealed
    # The agent itself sees what it saw.
    assert (state / "credentials" / "old").read_text() == "old"
    (state / "jobs" / "old").write_text("newer")
    free = who.run(code)
    assert free.startswith("['written', 'written', 'written', 'new', 'old', None, 'written'")


@everybody
def test_the_agents_socket_is_out_of_reach(who: _Who, place: Path) -> None:
    state = _state(place)
    path = state / isolation.SOCKETS / "agent.sock"
    dial = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r}); print('through')"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        assert who.run(dial) == "through"
        assert "FileNotFoundError" in who.run(dial, state=state)


@everybody
def test_a_seal_cannot_be_broken(who: _Who, place: Path) -> None:
    state = _state(place)
    undo = (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"keys = {str(state / 'credentials')!r}.encode()\nstate = {str(state)!r}.encode()\n"
        "print(libc.umount(keys), libc.mount(None, state, None, 4096 | 32, None))"
    )
    assert who.run(undo, state=state) == "-1 -1"


def _without_namespaces() -> str:
    """Return a program after which the system refuses namespaces."""
    if _ROOT:
        # As in a container: root, but for the right to administer.
        return (
            "import ctypes\nclass Head(ctypes.Structure):\n"
            "    _fields_ = [('version', ctypes.c_uint32), ('pid', ctypes.c_int)]\n"
            "head, data = Head(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"
            "libc = ctypes.CDLL(None)\nlibc.capget(ctypes.byref(head), data)\n"
            "data[0] &= ~(1 << 21)\nlibc.capset(ctypes.byref(head), data)\n"
            "isolation._prctl(24, 21)"
        )
    # A user namespace of our own in which there may be no other.
    return (
        "uid, gid = os.getuid(), os.getgid()\nisolation._unshare(0x10000000)\n"
        "isolation._write('/proc/self/setgroups', 'deny')\n"
        "isolation._write('/proc/self/uid_map', f'{uid} {uid} 1')\n"
        "isolation._write('/proc/self/gid_map', f'{gid} {gid} 1')\n"
        "isolation._write('/proc/sys/user/max_user_namespaces', '0')"
    )


def test_where_the_system_refuses_a_worker_runs_or_does_not_as_was_asked() -> None:
    before = _without_namespaces()
    assert _SELF.run("print('runs')", isolation.AUTO, before=before) == "runs"
    assert "unshare" in _SELF.run("print('runs')", isolation.ON, before=before)


def test_a_user_namespace_without_users_is_not_entered() -> None:
    # As AppArmor does on Ubuntu.
    before = (
        "import resource\n"
        "def refuse(path, text):\n    raise PermissionError(13, 'no mapping')\n"
        "isolation._write = refuse"
    )
    who = _OTHER or _SELF
    say = "import os; print(os.getuid(), os.readlink('/proc/self/ns/net'))"
    plain = who.run(say, isolation.OFF)
    assert who.run(say, isolation.AUTO, before=before) == plain
    assert "namespaces: Permission denied" in who.run(say, isolation.ON, before=before)
