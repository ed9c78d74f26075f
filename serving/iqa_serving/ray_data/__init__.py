"""Score images on many machines: a stage for Ray Data, and what ``iqa-ray`` makes of it (extra ``ray``)."""

from iqa_serving.ray_data.stage import ScoreImages

__all__ = ["ScoreImages"]
