"""Images: from a file to 8-bit RGB, upright; one file a format."""

from iqa_runtime.images.loading import DEFAULT_PIXEL_LIMIT, Source, load_image

__all__ = ["DEFAULT_PIXEL_LIMIT", "Source", "load_image"]
