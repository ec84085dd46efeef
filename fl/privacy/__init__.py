"""Record-level differential privacy: DP-SGD, keyed randomness, and the ledger that follows the record."""

from fl.privacy.accounting import ORDERS, Mechanism, calibrate, epsilon, epsilons, rdp
from fl.privacy.dpsgd import train_private
from fl.privacy.errors import LedgerError, ReleaseConflictError, TrainingDivergedError
from fl.privacy.ledger import RecordLedger
from fl.privacy.prf import EventStreams, Stream, event_streams, simulated_secret, stream
from fl.privacy.private_model import check_private
from fl.privacy.secret import client_secret

__all__ = [
    "ORDERS",
    "EventStreams",
    "LedgerError",
    "Mechanism",
    "RecordLedger",
    "ReleaseConflictError",
    "Stream",
    "TrainingDivergedError",
    "calibrate",
    "check_private",
    "client_secret",
    "epsilon",
    "epsilons",
    "event_streams",
    "rdp",
    "simulated_secret",
    "stream",
    "train_private",
]
