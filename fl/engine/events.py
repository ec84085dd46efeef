"""What can be observed of a run. To observe one, write a class with these two methods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flwr.app import ArrayRecord


@dataclass(frozen=True)
class BatchEvent:
    """What one exchange with the clients came to; observers of a run receive these.

    Attributes
    ----------
    message_type : str
        ``train``, ``evaluate``, ``query``, or one of them with an action.
    server_round : int or None
        The round the ServerApp named in its message, if it did.
    sent, replied, failed : int
        Messages sent, replies with content, and error replies or none at all.
    seconds : float
        From sending to delivery.
    error : str or None
        The reason of the first failure, with the client's partition id.
    details : str
        That failure's traceback, where there is one.
    replayed : bool
        Whether the replies came from the record of an earlier attempt.
    clients : mapping of int to mapping of str to float
        The scalar metrics of each usable reply, by partition id: what the client chose to tell the server. With
        privacy on, fedshard's own client tells nothing but its constant weight.
    """

    message_type: str
    server_round: int | None
    sent: int
    replied: int
    failed: int
    seconds: float
    error: str | None = None
    details: str = ""
    replayed: bool = False
    clients: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundEvent:
    """The end of a round, as the ServerApp reports it.

    Attributes
    ----------
    server_round : int
        From 1; 0 is the model before training.
    total_rounds : int or None
        How many there will be, where it is known.
    metrics : mapping of str to float
        E.g. ``test_accuracy``, ``test_loss``, ``epsilon``.
    arrays : ArrayRecord or None
        The global model at this moment, where the ServerApp gives it.
    phases : mapping of str to float
        Seconds of the ServerApp's own work in this round, by name (``aggregation``, ``server test``), where it says.
    council : sequence of mapping
        One for each block that a council committed in this round; see `fl.run.blocks`.
    """

    server_round: int
    total_rounds: int | None
    metrics: Mapping[str, float]
    arrays: ArrayRecord | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    council: Sequence[Mapping[str, Any]] = ()


class Observer(Protocol):
    """Receives what happens in a run, in order, in the main process (from several threads, with a legacy server)."""

    def on_batch(self, event: BatchEvent) -> None:
        """Take note that messages were sent to clients and answered."""

    def on_round(self, event: RoundEvent) -> None:
        """Take note that the ServerApp finished a round."""
