"""A simulated durable log with the faults of real disks; it means what the network runtime's sqlite log means."""

import struct
import zlib
from random import Random
from typing import Literal, get_args

from consensus.machine import Forget, Persist

DiskFault = Literal["kept", "lost", "torn", "flipped"]
"""What becomes of the writes that were not durable yet when a replica crashes.

``kept``: they are all there. ``lost``: none is. ``torn``: the first ones are, the next is cut short. ``flipped``: all
are, one with a wrong bit. A record that fails its checksum is dropped with everything after it.
"""

DISK_FAULTS: tuple[DiskFault, ...] = get_args(DiskFault)

_HEAD = struct.Struct(">IIBQ")  # checksum of what follows, length of the record, kind, sequence number


def _frame(operation: Persist | Forget) -> bytes:
    record = operation.record if type(operation) is Persist else b""
    rest = _HEAD.pack(0, len(record), type(operation) is Persist, operation.seq)[4:] + record
    return zlib.crc32(rest).to_bytes(4, "big") + rest


def _read(frame: bytes) -> Persist | Forget | None:
    if len(frame) < _HEAD.size:
        return None
    checksum, length, keeps, seq = _HEAD.unpack_from(frame)
    record = frame[_HEAD.size :]
    if len(record) != length or checksum != zlib.crc32(frame[4:]):
        return None
    return Persist(seq, record) if keeps else Forget(seq)


class Disk:
    """One replica's log. Writes are durable once they are synced.

    Attributes
    ----------
    writes : int
        How many records were written in all lives.
    crash_at : int
        The record during whose writing the replica crashes, counted from 1; 0 for none.
    fault : DiskFault
        What that crash does to the disk.
    capacity : int
        Bytes that fit; 0 for no limit. A replica whose disk is full stops.
    """

    def __init__(self, capacity: int = 0) -> None:
        self.writes = 0
        self.crash_at = 0
        self.fault: DiskFault = "lost"
        self.capacity = capacity
        self._size = 0
        self._durable: list[tuple[int, bytes]] = []  # sequence number and frame
        self._unsynced: list[tuple[int, bytes]] = []

    def write(self, operation: Persist | Forget) -> bool:
        """Write without syncing; False when the replica must stop: it crashes in this write, or the disk is full."""
        frame = _frame(operation)
        self._unsynced.append((operation.seq, frame))
        if type(operation) is Forget:
            return True
        self.writes += 1
        self._size += len(frame)
        return self.writes != self.crash_at and not 0 < self.capacity < self._size

    def sync(self) -> None:
        """Make everything written so far durable."""
        for seq, frame in self._unsynced:
            if frame[8]:
                self._durable.append((seq, frame))
            else:
                self._durable = [kept for kept in self._durable if kept[0] > seq]
                self._size = sum(len(kept) for _, kept in self._durable)
        self._unsynced = []

    def crash(self, fault: DiskFault, random: Random) -> int:
        """Lose power: of what was not synced, that is left what `fault` says; gives how many writes that is."""
        writes, self._unsynced = self._unsynced, []
        if fault == "lost" or not writes:
            return 0
        hit = random.randrange(len(writes))
        seq, frame = writes[hit]
        if fault == "torn":
            writes[hit:] = [(seq, frame[: random.randrange(len(frame))])]
        elif fault == "flipped":
            byte = random.randrange(len(frame))
            writes[hit] = (seq, frame[:byte] + bytes([frame[byte] ^ 1 << random.randrange(8)]) + frame[byte + 1 :])
        for index, (_, written) in enumerate(writes):
            if _read(written) is None:
                del writes[index:]
                break
        self._unsynced = writes
        self.sync()
        return len(writes)

    def rot(self, random: Random) -> None:
        """Flip a bit of a record that was durable. No protocol can vouch for a replica that this happens to."""
        if self._durable:
            del self._durable[random.randrange(len(self._durable)) :]

    def records(self) -> list[bytes]:
        """Give the records that are durable, in the order of writing."""
        return [frame[_HEAD.size :] for _, frame in self._durable]
