"""Commands: iqa-train, iqa-eval."""
