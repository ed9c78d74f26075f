"""Commands: iqa-run, iqa-bench, and what all commands share."""
