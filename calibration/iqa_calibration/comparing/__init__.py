"""Any two artefacts beside each other: scores, and layer by layer."""
