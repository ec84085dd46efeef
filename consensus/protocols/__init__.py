"""The protocols by name: each is a quorum system and a vote path over the same PBFT core."""

import importlib
import sys

from consensus.pbft.config import Protocol
from consensus.protocols.flat import FLAT
from consensus.protocols.regional import REGIONAL, REGIONAL_FAST
from consensus.protocols.star import STAR
from consensus.protocols.two_layer import TWO_LAYER
from shards.errors import InputError
from shards.nearest import suggest

PROTOCOLS = {protocol.name: protocol for protocol in (FLAT, REGIONAL, REGIONAL_FAST, TWO_LAYER, STAR)}


def find(name: str) -> Protocol:
    """Find a protocol by its name, or one of your own as ``module:NAME``.

    Raises
    ------
    InputError
        For a name that is not known, or a module that does not hold a `Protocol` of that name.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(f"no protocol {name!r} ({suggest(name, PROTOCOLS)} Your own is named module:NAME)")
    if "" not in sys.path:  # a command's own folder is not its user's
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module_name), attribute, None)
    except ModuleNotFoundError as error:
        fix = "run where Python finds it" if error.name == module_name else f"{module_name!r} imports it"
        raise InputError(f"protocol {name!r}: {error}; {fix}") from None
    except Exception as error:
        raise InputError(
            f"protocol {name!r}: its module cannot be imported: {type(error).__name__}: {error}"
        ) from None
    if not isinstance(found, Protocol):
        raise InputError(f"protocol {name!r}: the module has no consensus.pbft.config.Protocol named {attribute!r}")
    return found
