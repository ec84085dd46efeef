"""From a model's name to its weights, its test metrics, and one clear line where the model does not fit."""

from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import nn

from fl.data import Records
from fl.data.reference import resolve
from fl.task import Task
from shards.errors import InputError


def build_model(reference: str) -> nn.Module:
    """Call the function that makes a fresh model.

    Parameters
    ----------
    reference : str
        ``module:function``, called without arguments; maps features to one logit per class, or to one number.

    Raises
    ------
    InputError
        If it cannot be imported or called, or returns something else.
    """
    try:
        model = resolve(reference)()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model = '{reference}': calling it raised {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model = '{reference}': returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def load_weights(model: nn.Module, arrays: ArrayRecord) -> None:
    """Copy arrays into the model of the same shape, by name."""
    model.load_state_dict(arrays.to_torch_state_dict(), strict=True)


def weights(model: nn.Module) -> ArrayRecord:
    """Return the model's weights and buffers."""
    return ArrayRecord(model.state_dict())


def tensors(records: Records) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features, shape (n, ...), and labels, shape (n,), as tensors."""
    return torch.tensor(records.features), torch.tensor(records.labels)


@torch.no_grad()
def evaluate(model: nn.Module, records: Records, task: Task) -> Mapping[str, float]:
    """Return the task's metrics of a model on records."""
    features, labels = tensors(records)
    model.eval()
    return task.metrics(model(features), labels)


@torch.no_grad()
def number_of_classes(model: nn.Module, records: Records, task: Task, who: str) -> int | None:
    """Try a model on the first record and return how many classes it tells apart; None where it predicts a number.

    Raises
    ------
    InputError
        If the model does not take the features, or returns another shape than the task's.
    """
    features, _ = tensors(records.select(np.array([0])))
    model.eval()
    try:
        outputs = model(features)
    except Exception as error:
        shape = tuple(features.shape[1:])
        cause = str(error).strip().splitlines()[0]
        raise InputError(f"the model does not take the features of {who} (shape {shape}): {cause}") from error
    return task.classes(outputs)
