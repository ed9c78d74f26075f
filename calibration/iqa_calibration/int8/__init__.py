"""Eight bits: what is seen of each tensor, where integers are placed and written, what they cost the score."""
