"""Frames of videos: `containers` tells whether a file is whole, `reading` decodes it, by PyAV (extra ``video``).

`color` says what the numbers of a frame mean, and `pixels` makes upright RGB of them.
"""

from iqa_runtime.video.reading import ClipFrame, read_frames

__all__ = ["ClipFrame", "read_frames"]
