"""Tasks measure what they say, by hand-computed values, and a model that does not fit its task is one line."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fl.data import Records
from fl.model import evaluate, number_of_classes
from fl.task import Classification, Regression
from shards.errors import InputError

ROWS = Records(
    features=np.array([[1.0], [2.0], [3.0]], dtype=np.float32),
    labels=np.array([10.0, 20.0, 60.0], dtype=np.float32),
    ids=np.arange(3),
)


def linear(slope, width=1):
    layer = nn.Linear(1, width, bias=False)
    nn.init.constant_(layer.weight, slope)
    return layer


def test_rmse_is_in_the_targets_units_and_the_loss_in_units_of_the_scale():
    measured = evaluate(linear(10.0), ROWS, Regression(scale=10.0))  # errors 0, 0, -30
    assert measured == pytest.approx({"rmse": math.sqrt(300), "loss": 3.0})


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_column_of_outputs_is_never_broadcast_against_the_labels(shape):
    outputs = torch.tensor([10.0, 20.0, 60.0]).reshape(shape)
    assert Regression(1.0).loss(outputs, torch.tensor([10.0, 20.0, 60.0])).item() == 0.0


def test_the_loss_of_a_batch_is_the_mean_of_its_records_losses():
    outputs, labels = torch.randn(8, 1), torch.randn(8)
    each = [Regression(2.0).loss(outputs[i : i + 1], labels[i : i + 1]) for i in range(8)]
    assert Regression(2.0).loss(outputs, labels).item() == pytest.approx(torch.stack(each).mean().item())


def test_accuracy_and_cross_entropy_of_known_logits():
    logits = torch.log(torch.tensor([[0.5, 0.5 - 1e-6], [0.25, 0.75], [0.9, 0.1]]))
    measured = Classification().metrics(logits, torch.tensor([0, 1, 1]))
    expected = -(math.log(0.5) + math.log(0.75) + math.log(0.1)) / 3
    assert measured == pytest.approx({"accuracy": 2 / 3, "loss": expected}, rel=1e-5)


def test_how_many_classes_a_model_tells_apart_is_read_off_its_outputs():
    assert number_of_classes(linear(1.0, width=4), ROWS, Classification(), "client 0") == 4
    assert number_of_classes(linear(1.0), ROWS, Regression(1.0), "client 0") is None
    assert number_of_classes(nn.Flatten(0), ROWS, Regression(1.0), "client 0") is None


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        (linear(1.0, width=4), Regression(1.0), r"shape \(1, 4\) for one record; expected \(1, 1\)"),
        (nn.Flatten(0), Classification(), 'or set task = "regression"'),
        (nn.Linear(7, 1), Regression(1.0), r"does not take the features of client 0 \(shape \(1,\)\)"),
    ],
)
def test_a_model_that_does_not_fit_is_one_line(model, task, message):
    with pytest.raises(InputError, match=message):
        number_of_classes(model, ROWS, task, "client 0")
