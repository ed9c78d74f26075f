"""Servers over the runtime, which knows nothing of them: a small one of HTTP, and what Triton needs."""
