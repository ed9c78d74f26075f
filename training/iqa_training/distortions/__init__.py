"""The 25 distortion types of KADID-10k and one of ours at continuous severities, and compositions of up to four.

The types, their groups and levels are those of KADID-10k (Lin, Hosu and Saupe, QoMEX 2019). Each function's docstring
says where ours differs.
"""

from .composition import MAX_STEPS, Step, compose, draw
from .registry import DISTORTIONS, GROUPS, KADID_NUMBER, MIN_SIDE, OWN_TYPES, TYPES, distort
from .severity import LEVELS

__all__ = [
    "DISTORTIONS",
    "GROUPS",
    "KADID_NUMBER",
    "LEVELS",
    "MAX_STEPS",
    "MIN_SIDE",
    "OWN_TYPES",
    "TYPES",
    "Step",
    "compose",
    "distort",
    "draw",
]
