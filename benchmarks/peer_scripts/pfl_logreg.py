"""The logistic regression of ``benchmarks/apps/logreg`` under pfl-research; runs in an environment of its own."""

import sys

import numpy as np
import torch
from logreg_app.data import BATCH_SIZE, CLASSES, FEATURES, LEARNING_RATE, LOCAL_EPOCHS, ROUNDS, client_records, stamp
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class Regression(torch.nn.Linear):
    """A linear model with the two functions that pfl asks of a module."""

    def loss(self, features, labels, eval=False):
        """Return the loss to minimise."""
        return torch.nn.functional.cross_entropy(self(features), labels)

    def metrics(self, features, labels):
        """Report nothing: local evaluation is off."""
        return {}


class Stamp(TrainingProcessCallback):
    """Tests the model after each round."""

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Print the result and the time."""
        _stamp(central_iteration + 1, model.pytorch_model)
        return False, Metrics()


def _stamp(number, module):
    stamp(number, module.weight.detach().numpy().T, module.bias.detach().numpy())


def main(clients):
    """Run all rounds on every client."""
    torch.set_num_threads(1)
    module = Regression(FEATURES, CLASSES)
    torch.nn.init.zeros_(module.weight)
    torch.nn.init.zeros_(module.bias)
    users = {
        str(number): PyTorchTensorDataset(tuple(map(torch.from_numpy, client_records(number))), user_id=str(number))
        for number in range(clients)
    }
    data = FederatedDataset(users.__getitem__, MinimizeReuseUserSampler(list(users)))
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    _stamp(0, module)
    FederatedAveraging().run(
        NNAlgorithmParams(ROUNDS, evaluation_frequency=ROUNDS + 1, train_cohort_size=clients, val_cohort_size=0),
        SimulatedBackend(training_data=data, val_data=data, postprocessors=[WeightByDatapoints()]),
        model,
        NNTrainHyperParams(
            local_num_epochs=LOCAL_EPOCHS, local_learning_rate=LEARNING_RATE, local_batch_size=BATCH_SIZE
        ),
        callbacks=[Stamp()],
    )


if __name__ == "__main__":
    np.random.seed(0)
    main(int(sys.argv[1]))
