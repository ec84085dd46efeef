"""What a federation learns to predict: a class, or a number. Each task has its loss and its metrics."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from shards.errors import InputError


class Task(Protocol):
    """How a model's outputs are measured against labels."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over records of a loss of each record alone, which DP-SGD can clip."""

    def metrics(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return ``loss`` and the figure that people read."""

    def classes(self, outputs: Tensor) -> int | None:
        """Check the shape of one record's outputs and return how many classes they tell apart, if any.

        Raises
        ------
        InputError
            If the shape is not this task's.
        """


@dataclass(frozen=True)
class Classification:
    """Labels are class indices, outputs one row of logits per record; cross-entropy in nats, and accuracy."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits, shape (n, classes), and class indices, shape (n,)."""
        return nn.functional.cross_entropy(outputs, labels)

    def metrics(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return ``accuracy``, the share of records whose largest logit is their class, and ``loss``."""
        accuracy = (outputs.argmax(dim=1) == labels).double().mean().item()
        return {"accuracy": accuracy, "loss": self.loss(outputs, labels).item()}

    def classes(self, outputs: Tensor) -> int:
        """Return the number of logits of one record."""
        if outputs.ndim != 2 or len(outputs) != 1:
            raise InputError(
                f"the model returns shape {tuple(outputs.shape)} for one record; expected (1, classes), "
                'or set task = "regression"'
            )
        return int(outputs.shape[1])


@dataclass(frozen=True)
class Regression:
    """Labels and outputs are numbers in the target's own units.

    Attributes
    ----------
    scale : float
        Public size of the target. The loss measures errors in units of it, so that step sizes and clipping norms
        do not depend on the target's units; the root mean squared error stays in those units.
    """

    scale: float

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error over `scale` squared; outputs have shape (n,) or (n, 1)."""
        return nn.functional.mse_loss(outputs.reshape(len(labels)) / self.scale, labels / self.scale)

    def metrics(self, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        """Return ``rmse``, the root mean squared error in the target's units, and ``loss``."""
        errors = outputs.reshape(len(labels)).double() - labels.double()
        return {"rmse": errors.square().mean().sqrt().item(), "loss": self.loss(outputs, labels).item()}

    def classes(self, outputs: Tensor) -> None:
        """Check that one record has one output."""
        if outputs.shape not in (torch.Size([1]), torch.Size([1, 1])):
            raise InputError(f"the model returns shape {tuple(outputs.shape)} for one record; expected (1, 1)")
