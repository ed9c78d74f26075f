"""Files: which ones a command reads, and how it writes without losing any."""
