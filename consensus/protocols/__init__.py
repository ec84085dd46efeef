"""The protocols by name: each is a quorum system and a vote path over the same PBFT core."""

from consensus.pbft.config import Protocol
from consensus.protocols.flat import FLAT
from consensus.protocols.regional import REGIONAL, REGIONAL_FAST
from consensus.protocols.star import STAR
from consensus.protocols.two_layer import TWO_LAYER
from shards.errors import InputError
from shards.nearest import suggest

PROTOCOLS = {protocol.name: protocol for protocol in (FLAT, REGIONAL, REGIONAL_FAST, TWO_LAYER, STAR)}


def find(name: str) -> Protocol:
    """Find a protocol by its name.

    Raises
    ------
    InputError
        For a name that is not known.
    """
    if name not in PROTOCOLS:
        raise InputError(f"no protocol {name!r}: {suggest(name, PROTOCOLS)}")
    return PROTOCOLS[name]
