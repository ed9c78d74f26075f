"""Scoring: from decoded images to crops, through the model, to scores and maps."""
