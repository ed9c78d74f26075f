"""What the benchmark of ``iqa-serve`` is made of."""
