"""ShuffleNetV2 choice blocks of SPOS (Guo et al. 2020)."""

from boardfront.search.spaces.spos.encoding import CHOICES
from boardfront.search.spaces.spos.settings import SposSettings
from boardfront.search.spaces.spos.space import SposSpace

__all__ = ["CHOICES", "SposSettings", "SposSpace"]
