"""Commands: iqa-calibrate, iqa-compare."""
