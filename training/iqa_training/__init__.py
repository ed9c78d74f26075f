"""Train and judge IQA models: distortions, data sets, metrics, losses, recipes of the four papers, evaluation."""
