"""Run an app under Flower's own simulation, on Ray: ``python -m benchmarks.ray_simulation APP``.

``run_simulation`` is the shortest way in: ``flwr run`` starts a SuperLink as well, and takes longer. It gives the
apps an empty run configuration, so they run with their own defaults.
"""

import argparse
from pathlib import Path

from flwr.simulation import run_simulation

from fl.engine import Apps, AppSpec


def main() -> None:
    """Load the app and simulate it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("app", type=Path)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--cpus", type=float, default=1.0, help="CPUs that Ray sets aside per client")
    arguments = parser.parse_args()
    spec = AppSpec.load(arguments.app)
    apps = Apps.load(spec)
    run_simulation(
        apps.server,
        apps.client,
        num_supernodes=arguments.clients,
        backend_config={"client_resources": {"num_cpus": arguments.cpus, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main()
