"""From a trained PyTorch IQA network to an artefact that the lean runtime can score with."""
