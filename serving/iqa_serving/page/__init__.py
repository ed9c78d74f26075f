"""The page at ``/``: pictures that are dropped on it are scored and shown as a report shows them."""
