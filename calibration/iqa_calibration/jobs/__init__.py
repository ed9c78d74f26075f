"""A calibration job from what was asked for to the artefact that passed, and its report."""
