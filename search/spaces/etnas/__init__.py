"""The ET-NAS space of NASOA (2020)."""

from boardfront.search.spaces.etnas.block import COMMON_BLOCKS, Block
from boardfront.search.spaces.etnas.encoding import Architecture, decode, encode
from boardfront.search.spaces.etnas.settings import EtnasSettings
from boardfront.search.spaces.etnas.space import EtnasSpace

__all__ = [
    "COMMON_BLOCKS",
    "Architecture",
    "Block",
    "EtnasSettings",
    "EtnasSpace",
    "decode",
    "encode",
]
