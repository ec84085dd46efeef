"""The model of the byzantine scenario: logistic regression on the pixels of digits."""

from torch import nn


def build() -> nn.Module:
    """Return a fresh model, at zero."""
    model = nn.Linear(64, 10)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return model
