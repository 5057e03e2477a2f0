"""Everything that is told of an exported network, gathered once for all that tell it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from boardfront.latency_models import strict_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from boardfront.host.export.agreement import Agreement
    from boardfront.host.export.finished import FinishedRun, Member
    from boardfront.host.export.library import Library
    from boardfront.host.export.pick import Pick
    from boardfront.host.export.promise import Promise

FORMAT = 1

_VERSIONED = ("boardfront", "onnx", "onnxruntime", "torch")
_ELEMENT_TYPES = {1: "float32"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """An input or output of the network.

    Args:
        name: In the ONNX file.
        dtype: Of its elements.
        shape: Fixed.
        layout: What the dimensions are.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is told of an exported network.

    Args:
        run: That it comes from.
        pick: The network, and why it is that one.
        promise: Its time.
        agreement: Of the ONNX file with torch.
        statistics_error: See `rebuild.Rebuilt`.
        mean: Subtracted from each channel of pixels from 0 to 1.
        std: Divided by afterwards.
        source: The input.
        sink: The output.
        library: Compiled by TVM; None where it was not asked for.
    """

    run: FinishedRun
    pick: Pick
    promise: Promise
    agreement: Agreement
    statistics_error: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: Port
    sink: Port
    library: Library | None = None

    @property
    def member(self) -> Member:
        """The network."""
        return self.pick.member

    @property
    def classes(self) -> int:
        """Number of outputs for one image."""
        return self.sink.shape[-1]

    @property
    def accuracy_note(self) -> str:
        """Which weights the accuracies are of, in words."""
        if self.run.accuracy_of == "supernet":
            return (
                "of weights inherited from a supernet, not trained alone: train the network to "
                "the end before shipping it"
            )
        return "of a short training from scratch: train the network to the end before shipping it"


def port(value: onnx.ValueInfoProto, layout: str) -> Port:
    """Return an input or output of a graph whose shape is fixed."""
    tensor = value.type.tensor_type
    return Port(
        name=value.name,
        dtype=_ELEMENT_TYPES.get(tensor.elem_type, str(tensor.elem_type)),
        shape=tuple(d.dim_value for d in tensor.shape.dim),
        layout=layout,
    )


def metadata(facts: Facts) -> dict[str, str]:
    """Return what stands in the ONNX file itself; nested values are JSON."""
    told = to_json(facts)
    plain = {
        "format": FORMAT,
        "run": told["run"],
        "experiment_digest": told["experiment_digest"],
        "encoding": told["encoding"],
        "space": told["space"],
        "space_settings": told["space_settings"],
        "data": told["data"],
        "classes": told["classes"],
        "normalisation": told["normalisation"],
        "accuracy_of": told["accuracy"]["of"],
        "validation_accuracy": told["accuracy"]["validation"],
        "test_accuracy": told["accuracy"]["test"],
        "promise": told["promise"],
        "versions": told["versions"],
    }
    return {
        f"boardfront.{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in plain.items()
    }


def to_json(facts: Facts) -> dict[str, Any]:
    """Return what `promise.json` holds: seconds and fractions throughout, null for unknown."""
    run, member = facts.run, facts.member
    return {
        "format": FORMAT,
        "run": run.folder.path.name,
        "experiment_digest": run.experiment_digest,
        "encoding": member.encoding,
        "index": member.index,
        "picked": {"rule": facts.pick.rule, "reason": facts.pick.reason},
        "space": run.experiment.space.name,
        "space_settings": strict_json.encode(run.experiment.space.settings),
        "data": run.experiment.data.name,
        "classes": facts.classes,
        "params": member.params,
        "macs": member.macs,
        "accuracy": {
            "validation": member.validation_accuracy,
            "test": member.test_accuracy,
            "of": run.accuracy_of,
            "note": facts.accuracy_note,
        },
        "input": strict_json.encode(facts.source),
        "output": strict_json.encode(facts.sink),
        "normalisation": {
            "formula": "(pixel - mean) / std for each channel, pixels from 0 to 1",
            "mean": list(facts.mean),
            "std": list(facts.std),
        },
        "promise": _promise(facts.promise),
        "agreement": strict_json.encode(facts.agreement),
        "batch_norm_statistics_error": facts.statistics_error,
        "library": None if facts.library is None else strict_json.encode(facts.library),
        "versions": {
            "export": {name: _version(name) for name in _VERSIONED},
            "run": dict(run.versions),
        },
    }


def _promise(promise: Promise) -> dict[str, Any]:
    target, time = promise.target, promise.time
    return {
        "median_s": time.median_s,
        "interval_s": [time.low_s, time.high_s],
        "verdict": promise.verdict.value,
        "evidence": list(promise.evidence),
        "trusted": promise.is_trusted,
        "origin": promise.origin,
        "raw_median_s": time.raw_median_s,
        "process_medians_s": list(promise.process_medians_s),
        "limit_s": promise.limit_s,
        "over_limit": promise.over_limit,
        "reference": promise.reference or None,
        "measured_unix_s": promise.measured_unix_s,
        "target": {
            "name": target.name,
            "asked": _several(target.device),
            "devices": list(promise.devices),
            "device_ids": list(promise.device_ids),
            "backend": target.backend,
            "backend_version": promise.backend_version,
            "options": dict(promise.options),
            "cpus": promise.cpus,
            "task": target.task.value,
            "batch": target.batch,
        },
    }


def _several(device: str | tuple[str, ...]) -> list[str]:
    return [device] if isinstance(device, str) else list(device)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def named(values: Mapping[str, str]) -> str:
    """Write options that are set, e.g. `threads=1, spinning=off`."""
    return ", ".join(f"{name}={value}" for name, value in values.items() if value)
