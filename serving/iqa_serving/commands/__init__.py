"""Commands: iqa-serve, iqa-triton."""
