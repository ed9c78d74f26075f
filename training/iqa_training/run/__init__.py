"""A training run: what it is, where it stands, how it is carried out."""
