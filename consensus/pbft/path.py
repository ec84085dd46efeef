"""How votes travel: the one thing in which the protocols differ."""

from typing import TYPE_CHECKING

from consensus.machine import Timer
from consensus.messages import CHECKPOINT, Bundle, Committed, Vote, encode

if TYPE_CHECKING:
    from consensus.pbft.replica import Replica


def kind_of(phase: int) -> str:
    """Name what a vote of this phase is counted as."""
    return "checkpoint" if phase == CHECKPOINT else "vote"


class VotePath:
    """Everybody to everybody, as published; the base of all paths.

    A path only sends. What it is told was verified, and whatever it does with it, agreement holds: votes are
    self-contained, so it does not matter how they travel. Losses are made good by the core's status exchange.

    Parameters
    ----------
    replica : Replica
        Whose votes they are; `replica.send`, `replica.others`, `replica.own` and the slots are there to be used.
    """

    def __init__(self, replica: "Replica") -> None:
        self.replica = replica

    def propose(self, seq: int, encoded: bytes) -> None:
        """Send the leader's proposal."""
        self.replica.send(self.replica.others, encoded, "vote")

    def proposed(self, seq: int, encoded: bytes, sender: int) -> None:
        """Hear that another leader's proposal was taken, which `sender` had sent."""

    def cast(self, vote: Vote) -> None:
        """Send the own vote."""
        self.replica.send(self.replica.others, encode(vote), kind_of(vote.phase))

    def wants(self, vote: Vote) -> bool:
        """Say whether a vote is still to be verified and counted although its statement has a certificate."""
        return False

    def heard(self, message: Vote | Bundle, sender: int) -> None:
        """Hear of votes that `sender` sent; they are in the slot's vote set already, if they were new."""

    def certified(self, certificate: Bundle) -> None:
        """Hear, once per statement, that a quorum's signatures are held."""

    def decided(self, seq: int) -> None:
        """Hear that a number was executed."""

    def overtaken(self, message: Committed, sender: int) -> None:
        """Hear that `sender` sent a decided batch, before it is taken in."""

    def fired(self, timer: Timer) -> None:
        """Take a timer whose name starts with ``"path"``."""

    def entered(self) -> None:
        """Hear that a view or an epoch began, or that a checkpoint became stable."""
