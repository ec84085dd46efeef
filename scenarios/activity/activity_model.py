"""The model of the activity federation: softmax regression on the window's features."""

from activity_data import ACTIVITIES
from activity_signals import FEATURES
from torch import nn


def build() -> nn.Module:
    """Return a fresh model, at zero: what people share is nearly linear, and few weights bear noise best."""
    model = nn.Linear(len(FEATURES), len(ACTIVITIES))
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return model
