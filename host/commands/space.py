"""`boardfront space list|show`: the search spaces and their architectures."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, cast

from boardfront.host import text
from boardfront.host.table import print_tsv
from boardfront.protos.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boardfront.search.space import NetworkSpace

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def run_list(*, as_json: bool) -> int:
    """Print the spaces and their settings."""
    from boardfront.search.spaces import catalog

    infos = [catalog.info(name) for name in catalog.names()]
    if as_json:
        content = [
            {
                "name": info.name,
                "summary": info.summary,
                "settings": [
                    {"name": name, "default": default, "meaning": meaning}
                    for name, default, meaning in info.parameters
                ],
            }
            for info in infos
        ]
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    if not sys.stdout.isatty():
        rows = []
        for info in infos:
            rows.append((info.name, "", "", info.summary))
            rows += [(info.name, *parameter) for parameter in info.parameters]
        print_tsv(("space", "setting", "default", "meaning"), rows)
        return 0
    for info in infos:
        sys.stdout.write(f"{info.name}: {info.summary}\n")
        for name, default, meaning in info.parameters:
            sys.stdout.write(f"  {name} = {default}  # {meaning}\n")
    return 0


def run_show(
    space_name: str, encoding: str, settings: Mapping[str, object], *, as_json: bool
) -> int:
    """Print the size of one architecture.

    Raises:
        WrongInputError: For an unknown space, a wrong setting or an invalid encoding.
    """
    from boardfront.search.spaces import catalog

    space = catalog.load(space_name, settings)
    space.validate(encoding)
    network_space = cast("NetworkSpace", space)
    counts = network_space.count(encoding)
    if as_json:
        content = {
            "space": space_name,
            "encoding": encoding,
            "resolution": network_space.resolution,
            "classes": network_space.classes,
            "params": counts.params,
            "macs": counts.macs,
            "activations": counts.activations,
        }
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return 0
    lines = [
        f"{encoding}  ({space_name}, {network_space.resolution}x{network_space.resolution}, "
        f"{network_space.classes} classes)",
        f"  parameters   {text.format_count(counts.params)}  ({counts.params})",
        f"  MACs         {text.format_count(counts.macs)}  ({counts.macs})",
        f"  activations  {text.format_count(counts.activations)}  ({counts.activations})",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def parse_settings(texts: Sequence[str]) -> dict[str, object]:
    """Parse `key=value` pairs whose values are written as in TOML, e.g. `stages=[[64, 4]]`.

    Raises:
        WrongInputError: If a text is no such pair.
    """
    settings: dict[str, object] = {}
    for given in texts:
        settings.update(_parse_setting(given))
    return settings


def _parse_setting(given: str) -> dict[str, object]:
    try:
        return tomllib.loads(given)
    except tomllib.TOMLDecodeError as error:
        raise WrongInputError(
            f"--set {given!r}: expected KEY=VALUE as in TOML, e.g. resolution=32: {error}"
        ) from error
