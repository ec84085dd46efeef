"""Sums and robust rules whose every bit is a function of their inputs: what replicas must agree about."""

from fl.aggregation.arrays import Layout, arrays_digest
from fl.aggregation.exact import ExactSum
from fl.aggregation.robust import Rule, inside_and_across, krum, median, trimmed_mean

__all__ = [
    "ExactSum",
    "Layout",
    "Rule",
    "arrays_digest",
    "inside_and_across",
    "krum",
    "median",
    "trimmed_mean",
]
