"""The service that simulated replicas agree about: any difference in what was executed, or in its order, shows."""

import hashlib


class Chain:
    """A counter and a hash over everything executed; the result of an operation says both.

    An operation that begins with ``refuse`` must not be voted for.
    """

    def __init__(self) -> None:
        self.count = 0
        self.head = bytes(32)

    def check(self, operation: bytes) -> str:
        """Refuse operations that say so."""
        return "it begins with 'refuse'" if operation.startswith(b"refuse") else ""

    def execute(self, operation: bytes) -> bytes:
        """Append an operation; returns the count and the first bytes of the hash."""
        self.count += 1
        self.head = hashlib.sha256(self.head + operation).digest()
        return self.count.to_bytes(8, "big") + self.head[:8]

    def snapshot(self) -> bytes:
        """Return the count and the hash."""
        return self.count.to_bytes(8, "big") + self.head

    def restore(self, snapshot: bytes) -> None:
        """Take a snapshot's count and hash."""
        self.count = int.from_bytes(snapshot[:8], "big")
        self.head = snapshot[8:40]
