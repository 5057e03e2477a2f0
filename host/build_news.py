"""What a table's build tells who looks on: a small file beside the table, while it is built."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildNews:
    """Where a build stands.

    Args:
        began_unix_s: When this part of the build began.
        time_unix_s: When this was told.
        pid: Of the process that builds.
        node: The machine that it runs on.
        blocks: That get a time, as far as is known.
        entries: That have one.
        before: Of those, what an earlier part of the build measured.
        round_number: 0 is the coarse one; None: the device is waited for.
        done: Looks of this round.
        total: Looks of this round, as far as is known.
        left_s: What the rest of the round is expected to take; None: nobody knows yet.
        budget_s: For how long may be measured; None: as long as it takes.
        note: The last look, and what came of it.
    """

    began_unix_s: float
    time_unix_s: float
    pid: int
    node: str
    blocks: int = 0
    entries: int = 0
    before: int = 0
    round_number: int | None = None
    done: int = 0
    total: int = 0
    left_s: float | None = None
    budget_s: float | None = None
    note: str = ""

    @property
    def per_minute(self) -> float | None:
        """Blocks that got a time, a minute; None before the first."""
        took_s = self.time_unix_s - self.began_unix_s
        fresh = self.entries - self.before
        return 60.0 * fresh / took_s if fresh > 0 and took_s > 0 else None

    @property
    def is_alive(self) -> bool | None:
        """Whether the process is there; None: it is another machine's."""
        if self.node != platform.node():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


class NewsFile:
    """Writes the news of a build; gone when the build ends. A disk that is full stops nothing.

    Args:
        table: The table's file.
        budget_s: For how long may be measured; None: as long as it takes.
    """

    def __init__(self, table: Path, *, budget_s: float | None = None) -> None:
        self._path = news_path(table)
        now_s = time.time()
        self._news = BuildNews(
            began_unix_s=now_s,
            time_unix_s=now_s,
            pid=os.getpid(),
            node=platform.node(),
            budget_s=budget_s,
        )

    def __enter__(self) -> Self:
        self.tell()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def tell(self, **changes: Any) -> None:
        """Write what changed; names as in `BuildNews`."""
        self._news = replace(self._news, time_unix_s=time.time(), **changes)
        content = json.dumps({"format": _FORMAT, **asdict(self._news)})
        part = self._path.with_name(f"{self._path.name}.part")
        with contextlib.suppress(OSError):
            part.write_text(content + "\n", encoding="utf-8")
            # At once: who reads finds the news of before or these.
            part.replace(self._path)


def news_path(table: Path) -> Path:
    """Return where the news of a table's build are."""
    return table.with_name(f"{table.name}.progress")


def read_news(table: Path) -> BuildNews | None:
    """Return the news of a table's build; None where nobody builds it, or they cannot be read."""
    try:
        content = json.loads(news_path(table).read_text(encoding="utf-8"))
        if content.pop("format") != _FORMAT:
            return None
        return BuildNews(**content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
