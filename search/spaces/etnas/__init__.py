"""The ET-NAS space of NASOA (2020)."""

from boardfront.search.spaces.etnas.encoding import Architecture, Block, decode, encode
from boardfront.search.spaces.etnas.settings import EtnasSettings
from boardfront.search.spaces.etnas.space import EtnasSpace

__all__ = ["Architecture", "Block", "EtnasSettings", "EtnasSpace", "decode", "encode"]
