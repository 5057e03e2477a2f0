"""A process that builds and times candidate schedules, because one in many crashes.

Run as `python -m boardfront.device_agent.backends.tvm_trial`: one JSON command a line on standard
input, one JSON answer a line on what was standard output. Built code stays in the process and is
never linked, so that no C compiler is needed. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from boardfront.device_agent.backends.tvm_import import import_tvm

_NUMBER = 3
_REPEATS = 3
_MIN_REPEAT_MS = 30


class _Trials:
    """Candidates by number, built and not yet timed."""

    def __init__(self) -> None:
        self._built: dict[int, Any] = {}

    def build(self, command: dict[str, Any]) -> dict[str, Any]:
        tvm = import_tvm()
        from tvm.driver import build
        from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

        module = tvm.ir.load_json(command["module"])
        target = tvm.target.Target(command["target"])
        module = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module)
        self._built[command["number"]] = build(module, target=target)
        return {}

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        tvm = import_tvm()
        built = self._built.pop(command["number"])
        device = tvm.cpu()
        fill = tvm.get_global_func("tvm.contrib.random.random_fill_for_measure")
        arguments = []
        for _, dtype, shape in command["arguments"]:
            argument = tvm.runtime.empty(shape, dtype, device)
            fill(argument)
            arguments.append(argument)
        evaluator = built.time_evaluator(
            built.entry_name, device, number=_NUMBER, repeat=_REPEATS, min_repeat_ms=_MIN_REPEAT_MS
        )
        return {"runs_s": [float(one) for one in evaluator(*arguments).results]}

    def forget(self, command: dict[str, Any]) -> dict[str, Any]:
        del command
        self._built.clear()
        return {}


def main() -> None:
    """Answer commands until standard input ends."""
    # Libraries write to standard output: answers keep a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    trials = _Trials()
    handlers = {"build": trials.build, "time": trials.time, "forget": trials.forget}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = handlers[command["do"]](command)
        except Exception as error:  # noqa: BLE001 - whatever a wrong schedule raises
            answer = {"error": f"{type(error).__name__}: {error}"[:1000]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
