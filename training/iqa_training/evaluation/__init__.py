"""Judge artefacts on data sets with human scores: agreement statistics, intervals, plots, reports."""

from iqa_training.evaluation.judge import BASELINES, Judged, Row, judge, measure
from iqa_training.evaluation.statistics import Agreement, Logistic, Statistic, agreement, fit_logistic

__all__ = [
    "BASELINES",
    "Agreement",
    "Judged",
    "Logistic",
    "Row",
    "Statistic",
    "agreement",
    "fit_logistic",
    "judge",
    "measure",
]
