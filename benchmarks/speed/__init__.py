"""Parts of `benchmarks/suite.py`: what is measured, how contenders take turns, and the document of it."""
