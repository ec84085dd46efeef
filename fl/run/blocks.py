"""What a run's log says of its council: one line per committed block, and what they come to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fl.council.council import Decision

PHASES = ("order", "prepare", "commit", "answer")


def described(decisions: Sequence[tuple["Decision", Sequence[str]]], seconds: float) -> list[dict[str, Any]]:
    """Describe the blocks of one round for its log.

    Parameters
    ----------
    decisions : sequence of (Decision, sequence of str)
        What was decided, with what is to be noted.
    seconds : float
        Wall time that all of it took; it stands in the last line.
    """
    lines = []
    for index, (decision, notes) in enumerate(decisions, start=1):
        block = decision.block
        refused = [
            f"replica {liar}, as leader, proposed what {count} replicas refused: {why}"
            for liar, count, why in decision.refused
        ]
        lines.append(
            {
                "height": block.height,
                "hash": block.hash.hex(),
                "view": block.view,
                "wall_ms": round(seconds * 1e3, 3) if index == len(decisions) else 0.0,
                "simulated_ms": {name: round(value, 3) for name, value in decision.phases_ms.items()},
                "messages": dict(decision.messages),
                "bytes": dict(decision.bytes),
                "notes": [*refused, *notes],
            }
        )
    return lines


@dataclass(frozen=True)
class Blocks:
    """The council of a run as its log tells it.

    Attributes
    ----------
    lines : tuple of dict
        One per block, by height; a resumed run repeats some, and the last word counts.
    """

    lines: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, lines: Sequence[Mapping[str, Any]]) -> "Blocks":
        """Select the lines about blocks."""
        found = {line["height"]: line for line in lines if line.get("kind") == "block"}
        return cls(tuple(found[height] for height in sorted(found)))

    @property
    def height(self) -> int:
        """Height of the chain; 0 where there is none."""
        return int(self.lines[-1]["height"]) if self.lines else 0

    @property
    def p50_ms(self) -> float | None:
        """Median wall time of a round in the council, in milliseconds."""
        walls = [line["wall_ms"] for line in self.lines if line["wall_ms"]]
        return round(median(walls), 3) if walls else None
