"""A tracker that writes what TensorBoard reads: ``fedshard run … --track tensorboard``."""

from pathlib import Path

import numpy as np

from fl.engine.events import BatchEvent, RoundEvent
from fl.run.history import WEIGHTS
from shards.errors import InputError

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise InputError("tensorboard is not installed; pip install 'fedshard[tensorboard]'") from error


class TensorBoard:
    """Writes metrics by round, the spread of clients' metrics, and seconds per exchange, below the run's folder.

    Parameters
    ----------
    folder : Path
        The run's folder; ``tensorboard --logdir runs`` finds every run below it.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(folder / "tensorboard")

    def on_batch(self, event: BatchEvent) -> None:
        """Write how long the exchange took, who failed, and the spread of each metric over clients."""
        if event.replayed or event.server_round is None:
            return
        self._add(f"seconds/{event.message_type}", event.seconds, event.server_round)
        self._add(f"failed/{event.message_type}", event.failed, event.server_round)
        for name in sorted({name for metrics in event.clients.values() for name in metrics} - set(WEIGHTS)):
            values = np.array([metrics[name] for metrics in event.clients.values() if name in metrics])
            if np.isfinite(values).all():
                tag = f"clients/{event.message_type} {name}"
                self._writer.add_histogram(tag, values, event.server_round)
        self._writer.flush()

    def on_round(self, event: RoundEvent) -> None:
        """Write the round's metrics; ``test_accuracy`` becomes ``test/accuracy``."""
        for name, value in event.metrics.items():
            self._add(name.replace("_", "/", 1), value, event.server_round)
        self._writer.flush()

    def _add(self, tag: str, value: float, server_round: int) -> None:
        self._writer.add_scalar(tag, value, server_round)
