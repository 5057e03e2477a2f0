"""The file that a table build writes: nothing that another build found is lost by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boardfront.latency_models.table import EntryOrigin
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    from boardfront.latency_models.table import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFile:
    """Where a build writes its table.

    Args:
        path: Of the file.
        replaces: Seed of the build whose table it held when this one began.
        before: The table that is gone on with; None where there is none.
    """

    path: Path
    replaces: str
    before: Table | None

    def check(self, seed: str) -> None:
        """Make sure, once the device is ours, that nobody has written the file meanwhile.

        Raises:
            WrongInputError: Another build has.
        """
        from boardfront.latency_models.table_finalists import refuse_other

        refuse_other(self.path, (seed, self.replaces))

    def check_recalled(self, seed: str, store: str | Path) -> None:
        """Refuse to write over what was measured, where the store knew nothing of it.

        Args:
            seed: Of this build.
            store: Where it looked.

        Raises:
            WrongInputError: The table that is gone on with was measured.
        """
        before = self.before
        if before is None or before.seed != seed:
            return
        if not before.networks and not any(
            one.origin is EntryOrigin.MEASURED for one in before.entries
        ):
            return
        from boardfront.latency_models.store_location import shown

        raise WrongInputError(
            f"{self.path}: expected its measurements in the store {shown(store)}, got none of "
            "them: give their --store, choose another -o, or measure all anew by --overwrite"
        )

    def save(self, table: Table) -> None:
        """Write what is known by now.

        Raises:
            WrongInputError: It cannot be written, or another build has written it meanwhile.
        """
        from boardfront.latency_models.table_finalists import save_with_rows

        save_with_rows(table, self.path, replaces=self.replaces)
