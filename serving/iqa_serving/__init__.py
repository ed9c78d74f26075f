"""A small HTTP server over the runtime, which knows nothing of it."""
