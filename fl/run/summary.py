"""What a run came to: the one object that ``fedshard run --json`` ends with."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Result


@dataclass(frozen=True)
class Summary:
    """The outcome of a run; None where the run has no such figure.

    Attributes
    ----------
    run_id : str
        Name of the run folder.
    rounds : int
        Rounds completed.
    test_accuracy, test_loss : float or None
        Of the final model, on the server's test set, else averaged over clients.
    epsilon_max, delta : float or None
        The most that any record has spent, at this delta; None where privacy is off.
    consensus_p50_ms : float or None
        Median wall time that the council took in a round; None without a council. Measured in this process, where all
        replicas are simulated: no network is in it.
    committed_blocks : int or None
        Height of the council's chain.
    model_digest : str or None
        `model_digest` of the final model.
    wall_s : float
        Seconds from the start of the workers to the end of the ServerApp.
    """

    run_id: str
    rounds: int
    test_accuracy: float | None
    test_loss: float | None
    epsilon_max: float | None
    delta: float | None
    consensus_p50_ms: float | None
    committed_blocks: int | None
    model_digest: str | None
    wall_s: float


def model_digest(arrays: ArrayRecord) -> str:
    """Return the SHA-256 over names and serialised arrays, in the model's own order (hexadecimal)."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        for part in (name.encode(), array.data):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def to_json(value: Any) -> str:
    """Write a value as JSON that every reader takes: NaN and infinity, which JSON does not know, become null."""

    def plain(part: Any) -> Any:
        if isinstance(part, float) and not math.isfinite(part):
            return None
        if isinstance(part, dict):
            return {key: plain(inner) for key, inner in part.items()}
        return [plain(inner) for inner in part] if isinstance(part, list | tuple) else part

    return json.dumps(plain(value), allow_nan=False)


def rounds_of(result: Result) -> dict[int, dict[str, float]]:
    """Collect a strategy's metrics by round, named ``test_*`` (server), ``client_*`` and ``train_*``."""
    rounds: dict[int, dict[str, float]] = {}
    for prefix, series in (
        ("train", result.train_metrics_clientapp),
        ("client", result.evaluate_metrics_clientapp),
        ("test", result.evaluate_metrics_serverapp),
    ):
        for number, record in series.items():
            for name, value in record.items():
                if isinstance(value, int | float):
                    rounds.setdefault(number, {})[f"{prefix}_{_plain(name)}"] = float(value)
    return dict(sorted(rounds.items()))


def headline(metrics: Mapping[str, float], kind: str) -> float | None:
    """Pick the accuracy or loss to report from a round's metrics: the server's own, else the clients'."""
    return next((metrics[f"{source}_{kind}"] for source in ("test", "client") if f"{source}_{kind}" in metrics), None)


def _plain(name: str) -> str:
    """Map the names that Flower's templates give to accuracy and loss onto one each."""
    lower = name.lower()
    return next((kind for kind, hint in (("accuracy", "acc"), ("loss", "loss")) if hint in lower), name)
