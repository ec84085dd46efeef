"""The logistic regression of ``benchmarks/apps/logreg`` under FedJAX; runs in an environment of its own."""

import sys

import fedjax
import jax
import jax.numpy as jnp
import numpy as np
from logreg_app.data import BATCH_SIZE, CLASSES, FEATURES, LEARNING_RATE, LOCAL_EPOCHS, ROUNDS, client_records, stamp


def loss(params, batch, rng):
    """Return the mean cross-entropy of a batch."""
    scores = jax.nn.log_softmax(batch["x"] @ params["weight"] + params["bias"])
    return -jnp.mean(jnp.take_along_axis(scores, batch["y"][:, None], axis=1))


def main(clients):
    """Run all rounds on every client."""
    algorithm = fedjax.algorithms.fed_avg.federated_averaging(
        grad_fn=jax.grad(loss),
        client_optimizer=fedjax.optimizers.sgd(LEARNING_RATE),
        server_optimizer=fedjax.optimizers.sgd(1.0),
        client_batch_hparams=fedjax.ShuffleRepeatBatchHParams(batch_size=BATCH_SIZE, num_epochs=LOCAL_EPOCHS),
    )
    tables = [client_records(number) for number in range(clients)]
    datasets = [fedjax.ClientDataset({"x": features, "y": labels}) for features, labels in tables]
    state = algorithm.init({"weight": jnp.zeros((FEATURES, CLASSES)), "bias": jnp.zeros(CLASSES)})
    keys = jax.random.split(jax.random.PRNGKey(0), ROUNDS)
    for number in range(ROUNDS + 1):
        if number:
            own = jax.random.split(keys[number - 1], clients)
            state, _ = algorithm.apply(state, [(b"%d" % n, datasets[n], own[n]) for n in range(clients)])
        stamp(number, np.asarray(state.params["weight"]), np.asarray(state.params["bias"]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
