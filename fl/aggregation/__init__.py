"""Sums and robust rules whose every bit is a function of their inputs: what replicas must agree about."""

from fl.aggregation.arrays import Layout, Vector, arrays_digest
from fl.aggregation.exact import ExactSum
from fl.aggregation.robust import Rule, krum, median, trimmed_mean
from fl.aggregation.rules import InsideAndAcross, Part, TwoStep, WeightedMean

__all__ = [
    "ExactSum",
    "InsideAndAcross",
    "Layout",
    "Part",
    "Rule",
    "TwoStep",
    "Vector",
    "WeightedMean",
    "arrays_digest",
    "krum",
    "median",
    "trimmed_mean",
]
