"""Commands: iqa-serve."""
