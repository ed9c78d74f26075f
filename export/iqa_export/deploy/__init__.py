"""Deploy rewrites: exact algebra that makes a network's graph cheaper without changing its function beyond rounding."""
