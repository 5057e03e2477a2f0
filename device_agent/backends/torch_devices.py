"""Which devices the installed torch can use here, told without importing it where possible."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_OLDEST_FOR_CUDA_13 = (7, 5)
_WHEELS = "https://download.pytorch.org/whl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Devices:
    """What the option `device` may be, and what keeps others from being used."""

    usable: tuple[str, ...]
    findings: tuple[str, ...]


def find_devices(gpu_file: Path = Path("/dev/nvidiactl")) -> Devices:
    """Look for what torch can compute on.

    torch is imported only if it was built for CUDA and there is a GPU: the import takes seconds
    on a board.

    Args:
        gpu_file: Is there where an NVIDIA driver is.
    """
    if not gpu_file.exists():
        return Devices(usable=("cpu",), findings=())
    if built_for_cuda() is None:
        finding = (
            "there is an NVIDIA GPU, but this torch was built for processors only: "
            f"pip install torch --index-url {_WHEELS}/cu126"
        )
        return Devices(usable=("cpu",), findings=(finding,))
    import torch

    if not torch.cuda.is_available():
        finding = (
            f"torch for CUDA {torch.version.cuda} cannot use the GPU: "
            "update the NVIDIA driver (nvidia-smi shows what CUDA it can do)"
        )
        return Devices(usable=("cpu",), findings=(finding,))
    usable, findings = ["cpu"], []
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        finding = missing_code(
            f"cuda:{index} ({torch.cuda.get_device_name(index)})",
            capability,
            torch.cuda.get_arch_list(),
            torch.__version__,
        )
        if finding:
            findings.append(finding)
        else:
            usable += [f"cuda:{index}"] if "cuda" in usable or index else ["cuda", "cuda:0"]
    return Devices(usable=tuple(usable), findings=tuple(findings))


def built_for_cuda() -> str | None:
    """Return the CUDA version that the installed torch was built for; imports nothing."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "version.py").read_text()
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return found.group(1) if found else None


def missing_code(
    device: str, capability: tuple[int, int], built: Sequence[str], version: str
) -> str:
    """Say that a build has no code for a GPU, and which one has; "" where it has.

    Args:
        device: What to call the GPU.
        capability: Its compute capability, such as (7, 0).
        built: For what the build has code, as `torch.cuda.get_arch_list()` says it.
        version: Of torch.
    """
    if not built or any(_runs(name, capability) for name in built):
        return ""
    number = "{}{}".format(*capability)
    if capability < _OLDEST_FOR_CUDA_13:
        # Builds for CUDA 13 hold no code for Volta and older; torch 2.15 drops those for 12.6.
        remedy = f"pip install 'torch<2.15' --index-url {_WHEELS}/cu126"
    else:
        remedy = f"pip install --upgrade torch --index-url {_WHEELS}/cu130"
    return (
        f"torch {version} has no code for {device}, which needs sm_{number}; it has "
        f"{' '.join(built)}: {remedy}"
    )


def _runs(name: str, capability: tuple[int, int]) -> bool:
    """Return whether code of this name runs on a GPU.

    Machine code (sm_80) runs on the same major version from its minor one on, intermediate code
    (compute_80) on all later ones; with an "a" it is for that one version only.
    """
    found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name)
    if found is None:
        return False
    built_for = int(found.group(2)), int(found.group(3))
    if found.group(4) == "a":
        return built_for == capability
    if found.group(1) == "sm" or found.group(4) == "f":
        return built_for[0] == capability[0] and built_for[1] <= capability[1]
    return built_for <= capability
