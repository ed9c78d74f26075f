"""The 25 distortion types of KADID-10k at continuous severities, and compositions of up to four of them.

The types, their groups and levels are those of KADID-10k (Lin, Hosu and Saupe, QoMEX 2019). Each function's docstring
says where ours differs.
"""

from .composition import MAX_STEPS, Step, compose, draw
from .registry import GROUPS, KADID_NUMBER, MIN_SIDE, TYPES, distort
from .severity import LEVELS

__all__ = ["GROUPS", "KADID_NUMBER", "LEVELS", "MAX_STEPS", "MIN_SIDE", "TYPES", "Step", "compose", "distort", "draw"]
