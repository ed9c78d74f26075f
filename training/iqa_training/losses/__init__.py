"""Loss functions, one module a family."""
