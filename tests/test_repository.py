"""What is true of the repository as a whole."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Written so that this file does not find itself.
_MACHINE_PATHS = re.compile("|".join(f"/{name}/" for name in ("work", "opt", "home", "root")))


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    done = subprocess.run(
        [shutil.which("git") or "git", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_paths_of_one_machine() -> None:
    found = []
    for path in _tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
            for number, line in enumerate(lines, 1)
            if _MACHINE_PATHS.search(line)
        ]
    assert not found


def test_nothing_is_large() -> None:
    large = [str(path) for path in _tracked() if path.stat().st_size > 1 << 20]
    assert not large


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "Makefile", "constraints.txt"])
def test_the_frame_is_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0
