"""The command `boardfront`: exit codes and one-line errors; the parsing is in `app.py`."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEEDS_HOST = "boardfront: the host part is not installed: run pip install 'boardfront[host]'\n"


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one an outcome
    """Run the command; return its exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        import typer
    except ImportError:
        sys.stderr.write(_NEEDS_HOST)
        return 1
    # gRPC must not see agents being started: they are exec'ed and share nothing with it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # torch's idle threads must sleep soon: spinning, they fall into timed windows on this machine
    # and make training crawl where another process wants a core.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from boardfront.host.app import app
        from boardfront.host.app_needed import needed_group

        group = needed_group(app, given)
        answer = group.main(args=given, prog_name="boardfront", standalone_mode=False)
    except BoardfrontError as error:
        return _fail(str(error), error.exit_code, debug=debug)
    except typer.TyperException as error:
        if error.format_message().startswith("Usage:"):
            # A group was named without its command: its help is the answer.
            sys.stderr.write(f"{error.format_message()}\n")
            return error.exit_code
        hint = "see boardfront --help, or --help after a command"
        return _fail(f"{error.format_message()} ({hint})", error.exit_code, debug=debug)
    except ModuleNotFoundError as error:
        return _fail(f"{error}: run pip install 'boardfront[host]'", 1, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("boardfront: interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - a bug, told in one line like everything else
        message = f"internal error: {type(error).__name__}: {error}: report it with --debug"
        return _fail(message, 1, debug=debug)
    return answer if isinstance(answer, int) else 0


def _interrupt(number: int, frame: object) -> None:
    """End as Ctrl-C does, so that nothing is lost either."""
    del number, frame
    raise KeyboardInterrupt


def _fail(message: str, exit_code: int, *, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"boardfront: {' '.join(message.split())}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
