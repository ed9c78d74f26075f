"""Photographs and graded degradations of them, cut into items as at run time."""
