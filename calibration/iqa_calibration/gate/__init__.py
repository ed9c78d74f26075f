"""Whether an artefact in another precision still judges quality as the float32 one does."""
