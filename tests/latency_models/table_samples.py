"""A space of two stages whose times are sums, as a build and its tests need it."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, field, replace

from boardfront.latency_models.blocks import HEAD, STEM, BlockKey
from boardfront.latency_models.table import NetworkRole, NetworkTime, Table, TableEntry
from boardfront.latency_models.table_chains import Chain, ChainFile
from boardfront.latency_models.table_plan import WholeNetwork
from boardfront.protos.records import Origin, Target, Task, Verdict

STEM_BLOCK = BlockKey(kind=STEM, in_channels=3, out_channels=8, stride=2, resolution=32)
HEAD_BLOCK = BlockKey(kind=HEAD, in_channels=32, out_channels=10, stride=1, resolution=4)
WIDTHS = {8: 16, 16: 32}
CALL_S = 40e-6
KIND_S = {"a": 50e-6, "b": 80e-6}
"""Of a block at the first stage that leaves the shape as it is."""


def block(kind: str, inputs: int, outputs: int) -> BlockKey:
    """Return a block of the space; those that widen have stride 2."""
    stride = 1 if inputs == outputs else 2
    resolution = {8: 16, 16: 8, 32: 4}[inputs]
    return BlockKey(
        kind=kind,
        in_channels=inputs,
        out_channels=outputs,
        stride=stride,
        resolution=resolution,
    )


def member(encoding: str) -> WholeNetwork:
    """Return a network: two letters a stage, the first of which widens."""
    places = [(8, 16), (16, 16), (16, 32), (32, 32)]
    inner = [block(kind, *place) for kind, place in zip(encoding, places, strict=True)]
    return WholeNetwork(encoding=encoding, chain=(STEM_BLOCK, *inner, HEAD_BLOCK))


MEMBERS = tuple(member("".join(letters)) for letters in itertools.product("ab", repeat=4))
KINDS = tuple(dict.fromkeys(block for one in MEMBERS for block in one.chain))


def block_s(key: BlockKey) -> float:
    """Return a block's programmed time, seconds; a head's grows with its outputs."""
    if key.kind == STEM:
        return 60e-6
    if key.kind == HEAD:
        return 3e-6 * key.out_channels
    return KIND_S[key.kind] * key.out_channels / 16 * (1.5 if key.stride == 2 else 1.0)


def chain_s(chain: Chain) -> float:
    """Return a chain's programmed time, seconds."""
    return CALL_S + sum(block_s(key) for key in chain)


@dataclass
class Programmes:
    """Writes chains as programmes of the fake backend.

    Args:
        noise: Relative standard deviation of a run.
        skew: Factor on whole members, which breaks additivity.
        faults: By block: what goes wrong in chains that end with it before the head.
    """

    noise: float = 0.002
    skew: float = 1.0
    faults: dict[BlockKey, str] = field(default_factory=dict)
    written: int = 0

    def write(self, chain: Chain) -> ChainFile | None:
        """Write a chain; additive by block."""
        self.written += 1
        time_s = chain_s(chain)
        if any(chain == one.chain for one in MEMBERS):
            time_s *= self.skew
        # In full: the fake reads a dash, as in 4e-05, as a span.
        options: dict[str, object] = {"time_s": f"{time_s:.12f}", "noise": self.noise}
        if len(chain) > 2 and chain[-2] in self.faults:
            options["fault"] = self.faults[chain[-2]]
        text = json.dumps(options)
        name = hashlib.sha256(repr(chain).encode()).hexdigest()
        return ChainFile(content=text.encode(), structure_hash=name)


def network_time(one: WholeNetwork, *, role: NetworkRole, factor: float = 1.0) -> NetworkTime:
    """Return a network as if it had been measured."""
    time_s = chain_s(one.chain) * factor
    return NetworkTime(
        encoding=one.encoding,
        blocks=tuple(key.text for key in one.chain),
        role=role,
        time_s=time_s,
        low_s=time_s * 0.99,
        high_s=time_s * 1.01,
        verdict=Verdict.OK,
        repeats_s=(time_s * 1.01,),
    )


def table(*, factor: float = 1.0, skew: float = 1.0) -> Table:
    """Return a whole table.

    Args:
        factor: On all times.
        skew: On whole networks besides.
    """
    base = MEMBERS[0]
    base_s = chain_s(base.chain) * factor
    made = Table(
        space="toy",
        space_settings={"resolution": 32, "stages": [[16, 2], [32, 2]]},
        task=Task(batch=1, resolution=32, classes=10),
        target=Target(
            fingerprint="f" * 16,
            backend="fake",
            backend_version="1",
            options={"noise": "0.001"},
            cpus="0-1",
        ),
        origin=Origin.PROGRAMMED,
        device_id="d" * 16,
        device_name="board",
        agent_version="0.1.0",
        built_unix_s=1_700_000_000.0,
        measurement_protocol_version=2,
        base=base.encoding,
        base_s=base_s,
        base_low_s=base_s * 0.99,
        base_high_s=base_s * 1.01,
        fixed_s=CALL_S * factor,
        fixed_low_s=CALL_S * factor * 0.9,
        fixed_high_s=CALL_S * factor * 1.1,
        entries=tuple(_entry(key, factor) for key in KINDS),
        networks=(
            *(network_time(m, role=NetworkRole.CALIBRATION, factor=factor) for m in MEMBERS[1:7]),
            *(
                network_time(m, role=NetworkRole.HELD_OUT, factor=factor * skew)
                for m in MEMBERS[7:]
            ),
        ),
    )
    from boardfront.latency_models.table_residual import calibrate, judge_networks

    made = replace(made, calibration=calibrate(made))
    return replace(made, residual=judge_networks(made))


def _entry(key: BlockKey, factor: float) -> TableEntry:
    time_s = block_s(key) * factor
    return TableEntry(
        block=key,
        time_s=time_s,
        low_s=time_s * 0.97,
        high_s=time_s * 1.03,
        verdict=Verdict.OK,
        count=100,
        copies=4,
        share=0.5,
    )
