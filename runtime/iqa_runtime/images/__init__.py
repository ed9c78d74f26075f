"""Images: from a file to 8-bit RGB, upright; one file a format."""
