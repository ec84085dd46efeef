"""What the council decides about: the outcome of one round, by digests, and the statements signed on the way."""

import hashlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from consensus.messages import DOMAIN

Assignment = tuple[tuple[int, ...], ...]
"""The aggregation map: the clients (node ids, sorted) of each region."""


class Update(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One client's update: its node id, and the digest of all that it replied with."""

    client: int
    digest: bytes


class RegionSum(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one region's updates come to, with its region certificate.

    Attributes
    ----------
    region : int
        Which region.
    updates : tuple of Update
        What went in, in the order of clients.
    digest : bytes
        Of the exact sum, or of the robust rule's value.
    signers : tuple of int
        The members that recomputed and signed `region_statement`, in increasing order.
    signatures : tuple of bytes
        Theirs.
    """

    region: int
    updates: tuple[Update, ...]
    digest: bytes
    signers: tuple[int, ...]
    signatures: tuple[bytes, ...]


class Reception(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Which updates some replicas received, by their signatures of `reception_statement`."""

    updates: tuple[Update, ...]
    signers: tuple[int, ...]
    signatures: tuple[bytes, ...]


class Outcome(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One round's outcome.

    Attributes
    ----------
    server_round : int
        The round; 0 for the model that training starts from.
    verify : str
        ``region`` or ``all``: what a vote vouches for.
    rule : str
        Name of the strategy, whose aggregate this is.
    sums : tuple of RegionSum
        The regions that are in it; with ``all`` there are none.
    receptions : tuple of Reception
        The signed reception lists of a quorum; with ``region`` there are none.
    aggregate : bytes
        `arrays_digest` of the new global model.
    metrics : bytes
        Digest of the aggregated metrics with ``all``; empty where they are the server's own word.
    assignment : tuple of tuple of int
        The aggregation map of the next round; empty with ``all``.
    """

    server_round: int
    verify: str
    rule: str
    sums: tuple[RegionSum, ...]
    receptions: tuple[Reception, ...]
    aggregate: bytes
    metrics: bytes
    assignment: Assignment


def encode(outcome: Outcome) -> bytes:
    """Give an outcome's canonical bytes: the operation that the council agrees on."""
    return msgspec.msgpack.encode(outcome)


def decode(operation: bytes) -> Outcome | None:
    """Read an operation; None for anything that is not exactly one in canonical form."""
    try:
        outcome = msgspec.msgpack.decode(operation, type=Outcome)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return outcome if encode(outcome) == operation else None


def region_statement(
    chain: bytes,
    server_round: int,
    assignment: Assignment,
    region: int,
    updates: Sequence[Update],
    digest: bytes,
) -> bytes:
    """Bytes that a region's member signs, once it has recomputed: chain, round, map, ordered inputs, result."""
    about = msgspec.msgpack.encode((server_round, assignment, region, updates, digest))
    return DOMAIN + b"/region/" + chain + hashlib.sha256(about).digest()


def reception_statement(chain: bytes, server_round: int, updates: Sequence[Update]) -> bytes:
    """Bytes that a replica signs to say which updates it holds."""
    return DOMAIN + b"/reception/" + chain + hashlib.sha256(msgspec.msgpack.encode((server_round, updates))).digest()


def included(receptions: Sequence[Reception], faults: int) -> tuple[Update, ...]:
    """Compute which updates a block must include: those that at least F+1 replicas list, so a correct one holds them.

    Parameters
    ----------
    receptions : sequence of Reception
        Their signatures were checked.
    faults : int
        F.
    """
    listed: dict[Update, set[int]] = {}
    for reception in receptions:
        for update in reception.updates:
            listed.setdefault(update, set()).update(reception.signers)
    chosen = [update for update, signers in listed.items() if len(signers) > faults]
    return tuple(sorted(chosen, key=lambda update: (update.client, update.digest)))


def assign(clients: Sequence[int], regions: int, before: Assignment = ()) -> Assignment:
    """Deal clients to regions: who has a region keeps it, the others join the smallest (the first of several)."""
    dealt = [list(region) for region in before] or [[] for _ in range(regions)]
    known = {client for region in dealt for client in region}
    for client in sorted(set(clients) - known):
        min(dealt, key=len).append(client)
    return tuple(tuple(sorted(region)) for region in dealt)
