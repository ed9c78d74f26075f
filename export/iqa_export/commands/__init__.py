"""Commands: iqa-export."""
