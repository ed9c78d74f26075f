"""Benchmark: how long an artefact takes on this host, stage by stage."""
