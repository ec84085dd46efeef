"""What a client checks before it trains: that the council decided on the model it was sent.

The genesis that a client saw first is pinned in its state, and so is the highest block: from then on it takes no
other council's word, and no older model. In a simulation all keys are the server's, so this proves that the way from
block to client is sound, not that the server is honest. With a deployed council it proves the latter too, to whoever
got the first genesis from elsewhere than the server.
"""

from functools import lru_cache
from typing import Any

import msgspec
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from numpy.typing import NDArray

from consensus.ledger import Block, Genesis, Members
from fl.aggregation import arrays_digest
from fl.council.outcome import Outcome, decode
from shards.errors import FedshardError

RECORD = "fedshard.block"
"""Name of the config record that carries the certificate of the model beside it."""

_PINNED = "fedshard.council"


class CertificateError(FedshardError):
    """The model that a client was sent is not one that the council decided on."""


def attached(genesis: Genesis, block: Block) -> ConfigRecord:
    """Make the record that carries a block to clients."""
    return ConfigRecord({"genesis": genesis.encode(), "block": msgspec.json.encode(block)})


def check(message: Message, context: Context, server_round: int) -> None:
    """Check the certificate of a training message, pin what it proves, and take it out of the message.

    Parameters
    ----------
    message : Message
        With one array record, the model, and the record `RECORD`.
    context : Context
        The client's; its state keeps what was pinned.
    server_round : int
        The round that the model is to be trained in.

    Raises
    ------
    CertificateError
        If there is none, or it does not certify this model, or an older one.
    """
    record = message.content.config_records.get(RECORD)
    if record is None:
        raise CertificateError("the model came without the block that made it; council-replicas says there is one")
    del message.content[RECORD]
    genesis, data = record["genesis"], record["block"]
    if not isinstance(genesis, bytes) or not isinstance(data, bytes):
        raise CertificateError("the block that came with the model cannot be read")
    chain, height, found = _checked(genesis, data)
    pinned = context.state.config_records.get(_PINNED)
    if pinned is not None and pinned["chain"] != chain:
        raise CertificateError("the model is another council's than the one that this client has pinned")
    seen = int(str(pinned["height"])) if pinned is not None else 0
    if height < seen:
        raise CertificateError(f"block {height} is older than block {seen}, which this client has seen")
    if found.server_round >= server_round:
        raise CertificateError(f"the block is of round {found.server_round}, the model for round {server_round}")
    if arrays_digest(numpy_arrays(next(iter(message.content.array_records.values())))) != found.aggregate:
        raise CertificateError(f"the model is not the one of block {height}")
    context.state[_PINNED] = ConfigRecord({"chain": chain, "height": height})


def numpy_arrays(arrays: ArrayRecord) -> dict[str, NDArray[Any]]:
    """Return a record's arrays."""
    return {name: array.numpy() for name, array in arrays.items()}


@lru_cache(maxsize=4)  # the clients that one process simulates are all sent the same block
def _checked(genesis: bytes, data: bytes) -> tuple[bytes, int, Outcome]:
    """Check a block against a genesis; return the chain's name, the height and the outcome."""
    try:
        council = Genesis.decode(genesis, "the council's genesis")
        block = msgspec.json.decode(data, type=Block)
    except (FedshardError, msgspec.MsgspecError) as error:
        raise CertificateError(f"the block that came with the model cannot be read: {error}") from None
    if why := Members.first(council).block_objection(block):
        raise CertificateError(f"block {block.height}: {why}")
    outcomes = [found for operation in block.operations if (found := decode(operation)) is not None]
    if not outcomes:
        raise CertificateError(f"block {block.height} decides no round")
    return council.chain, block.height, outcomes[-1]
