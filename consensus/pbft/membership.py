"""Changing who decides: a committed request that takes effect at a later checkpoint."""

import msgspec
from msgspec.structs import replace

from consensus.pbft.config import Config
from consensus.pbft.state import Header

_members_decoder = msgspec.msgpack.Decoder(tuple[bytes, ...])


def change(members: tuple[bytes, ...]) -> bytes:
    """Encode the operation by which the admin asks for a new member list.

    Parameters
    ----------
    members : tuple of bytes
        Public keys by place; empty bytes vacate a place, new ones go to vacated places or to the end.
    """
    return msgspec.msgpack.encode(members)


def change_of(header: Header, operation: bytes, config: Config) -> tuple[Header, bytes]:
    """Carry out a membership change, as of the number that `header` stands at.

    It takes effect at the first checkpoint that is at least a window away: every number that can be under way when it
    is executed lies before that, so nothing that was voted for is voided. Of F tolerated faults at most half may be
    exchanged at once, so that the two epochs share enough correct replicas for the hand-over.

    Returns
    -------
    header : Header
        With the change, unless it was refused.
    result : bytes
        ``b"ok <number>"`` with the epoch's last number, or ``b"refused: <why>"``.
    """
    try:
        members = _members_decoder.decode(operation)
    except (msgspec.MsgspecError, ValueError):
        return header, b"refused: not a member list"
    if header.until:
        return header, b"refused: another change is under way"
    before, after = header.members, members + (b"",) * (len(header.members) - len(members))
    changed = sum(
        1 for old, new in zip(before + (b"",) * (len(after) - len(before)), after, strict=True) if old != new
    )
    keys = [key for key in after if key]
    limit = max(1, (len(header.places) - 1) // 6)
    if not keys or len(set(keys)) != len(keys) or any(len(key) != 32 for key in keys):
        return header, b"refused: every member needs a key of its own, of 32 bytes"
    if not 0 < changed <= limit:
        return header, b"refused: %d places change, at most %d may" % (changed, limit)
    until = -(-(header.seq + config.window) // config.period) * config.period
    return replace(header, coming=after, until=until), b"ok %d" % until
