"""Artefacts: what lies on disk, read and verified before anything runs."""
