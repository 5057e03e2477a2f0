"""The leases of all devices of a run: taken before anything is timed, in an order all runs share.

Two runs that want the same two devices would wait for each other for ever if each took another
one first, so devices are taken in the order of their ids. A lease that is lost later is waited
for only so long where a run has several devices, for the same reason.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.host.fleet.client import AgentClient
from boardfront.host.fleet.lease import LeaseKeeper
from boardfront.protos.errors import BoardfrontError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boardfront.host.fleet.select import Selected
    from boardfront.protos.records import AcquireLeaseRequest

_POOL_PATIENCE_S = 20.0
"""Others can do what a board of a pool had."""

_PATIENCE_S = 600.0
_LOST_AFTER_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """What a device said when it was asked who has it.

    Args:
        order: Its place among all devices: its id, and where it is, because agents of one machine
            have one id.
        held_by: Somebody else's name; empty: nobody's.
    """

    order: tuple[str, str]
    held_by: str


class RunLeases:
    """One lease for each device of a run.

    Args:
        request: For all of them; see `lease_request`.
        say: Told who is waited for.
        post: Has something called on the thread that made this object; used from other threads.
    """

    def __init__(
        self,
        request: AcquireLeaseRequest,
        say: Callable[[str], None],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._request = request
        self._say = say
        self._post = post
        self._thread = threading.get_ident()
        self._keepers: dict[str, LeaseKeeper] = {}

    def take(self, targets: Sequence[Sequence[Selected]]) -> dict[str, str]:
        """Take a lease of every device, waiting for it if need be.

        Args:
            targets: The devices of each target; several are a pool, of which those that others
                hold are passed over as long as one is left.

        Returns:
            Why devices were passed over, by name. A device that does not answer is none of them:
            whoever asks it next is told.
        """
        devices: dict[str, Selected] = {}
        for device in (one for devices_of_target in targets for one in devices_of_target):
            devices.setdefault(device.name, device)
        seen = self._ask(list(devices.values()))
        passed_over: dict[str, str] = {}
        for devices_of_target in targets:
            names = [one.name for one in devices_of_target]
            free = [name for name in names if name in seen and not seen[name].held_by]
            passed_over |= {
                name: f"it is held by {seen[name].held_by}"
                for name in names
                if free and name in seen and name not in free
            }
        for devices_of_target in targets:
            # What one target can do without may be all that another has.
            names = [one.name for one in devices_of_target]
            if all(name in passed_over for name in names):
                for name in names:
                    del passed_over[name]
        for name, device in devices.items():
            if name not in passed_over:
                self._keepers[name] = self._keeper(device, targets)
        for name in sorted(set(self._keepers) & set(seen), key=lambda n: seen[n].order):
            self._keepers[name].token()
        return passed_over

    def of(self, name: str) -> LeaseKeeper:
        """Return the keeper of a device that was not passed over."""
        return self._keepers[name]

    def stop(self) -> None:
        """Have all leases given back, and end every wait; return at once."""
        for keeper in self._keepers.values():
            keeper.stop()

    def close(self) -> None:
        """Give all leases back."""
        self.stop()
        for keeper in self._keepers.values():
            keeper.close()

    def _keeper(self, device: Selected, targets: Sequence[Sequence[Selected]]) -> LeaseKeeper:
        alone = sum(len(devices) for devices in targets) == 1
        alternatives = min(
            len(devices) for devices in targets if device.name in [one.name for one in devices]
        )
        patience_s = _POOL_PATIENCE_S if alternatives > 1 else _PATIENCE_S
        return LeaseKeeper(
            device.address,
            self._request,
            device=device.name,
            say=self._tell,
            patience_s=None if alone else patience_s,
            lost_after_s=_POOL_PATIENCE_S if alternatives > 1 else _LOST_AFTER_S,
        )

    def _ask(self, devices: Sequence[Selected]) -> dict[str, _Seen]:
        """Ask all at once; who does not answer is missing."""
        with ThreadPoolExecutor(max(1, len(devices))) as pool:
            answers = pool.map(self._see, devices)
            return {
                device.name: seen
                for device, seen in zip(devices, answers, strict=True)
                if seen is not None
            }

    def _see(self, device: Selected) -> _Seen | None:
        client = AgentClient(device.address)
        try:
            device_id = client.describe().device_id
            holder = client.show_lease().holder
            order = (device_id, device.address.resolve())
        except BoardfrontError:
            return None
        finally:
            client.close()
        # A run that is resumed meets itself.
        is_ours = holder is None or holder.name.endswith(self._request.holder)
        return _Seen(order=order, held_by="" if holder is None or is_ours else holder.name)

    def _tell(self, line: str) -> None:
        if threading.get_ident() == self._thread:
            self._say(line)
        else:
            self._post(lambda: self._say(line))
