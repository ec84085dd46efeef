"""What can go wrong between a training event and its durable charge."""

from shards.errors import FedshardError


class LedgerError(FedshardError):
    """The privacy ledger could not be read or written just now; nothing was released or half-written."""


class ReleaseConflictError(FedshardError):
    """An event already released other bytes; its noise must not cover a second value, so it is abandoned."""


class TrainingDivergedError(FedshardError):
    """Training ended in a parameter that is NaN or infinite."""
