"""The section of a run's page about its council: who is where, how long it took, what it sent, what it decided."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from consensus.ledger import GENESIS, Genesis
from consensus.protocols import find
from consensus.simulation.latency import assign, network
from fl.council import NETWORK, SIMULATED
from fl.run.blocks import PHASES, Blocks
from fl.run.charts import Line, Unit, line_chart, stacked_bars
from fl.run.report_page import Section, code

_MILLI = Unit("ms", ((1e3, "s"),))
_MOST_BLOCKS = 12


@dataclass(frozen=True)
class CouncilFacts:
    """What is known of a run's council.

    Attributes
    ----------
    genesis : Genesis
        Who decides, and how.
    blocks : Blocks
        What the log says of each block.
    """

    genesis: Genesis
    blocks: Blocks

    @classmethod
    def load(cls, path: Path, blocks: Blocks) -> "CouncilFacts | None":
        """Read a run folder's genesis; None where the run had no council, or committed nothing.

        Raises
        ------
        InputError
            If the genesis is damaged.
        """
        return cls(Genesis.read(path), blocks) if blocks.lines and (path / GENESIS).exists() else None


def council(facts: CouncilFacts) -> Section:
    """Draw the council of a run."""
    n, lines = len(facts.genesis.members), facts.blocks.lines
    bound = find(facts.genesis.protocol).quorums(facts.genesis.regions).bound
    text = [
        f"{SIMULATED.capitalize()}: {n} replicas, protocol `{facts.genesis.protocol}`, which survives {bound} faulty "
        "ones wherever they are. All keys derive from the run's seed: the chain shows that the machinery is sound, "
        "not that nobody cheated. `fedshard ledger verify` checks it offline.",
        f"Latencies in the charts are simulated: the replicas stand evenly over the cities of the model `{NETWORK}`, "
        "links are never busy, and computing takes no time. The wall time is what the council took on this machine.",
    ]
    walls = _by_round((line["server_round"], {"wall": line["wall_ms"]}) for line in lines)
    simulated = _by_round((line["server_round"], line["simulated_ms"]) for line in lines)
    messages = _by_round((line["server_round"], line["messages"]) for line in lines)
    waits = (
        "Order: until the proposal that was decided. Long where a leader had to be replaced: timers are simulated."
    )
    charts = [
        stacked_bars(
            "Simulated latency by phase",
            {phase: simulated[phase] for phase in PHASES if phase in simulated},
            unit=_MILLI,
            note=waits,
        ),
        stacked_bars("Messages by kind", messages, note="Vote: the vote path. Backup: its copies after a timeout."),
        line_chart("Wall time of the council", [Line("wall time", walls["wall"])], unit=_MILLI),
    ]
    return Section("Council", text, [_region_map(facts), *charts], extra=_table(facts.blocks))


def _by_round(parts: Iterable[tuple[int, Mapping[str, float]]]) -> dict[str, dict[int, float]]:
    """Add up figures by round: a round may have more than one block."""
    found: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for number, values in parts:
        for name, value in values.items():
            found[name][number] += value
    return {name: dict(values) for name, values in found.items()}


def _region_map(facts: CouncilFacts) -> str:
    """Draw each region with its replicas, where they stand, and who was named as a liar."""
    n = len(facts.genesis.members)
    places = network(NETWORK)
    sites = [places.names[index] for index in assign(n, places)]
    notes = [note for line in facts.blocks.lines for note in line["notes"]]
    named = {int(found) for note in notes for found in re.findall(r"(?:replica|head) (\d+)(?=, as| stated)", note)}
    regions = []
    for index, members in enumerate(facts.genesis.regions):
        chips = "".join(
            f'<li class="{_style(member, members[0], named)}" title="{escape(sites[member])}">'
            f"{member} {escape(sites[member])}</li>"
            for member in members
        )
        regions.append(f"<div><h4>region {index}</h4><ul>{chips}</ul></div>")
    caption = (
        "<figcaption><h3>Region map</h3><p>Replicas by region; the first of each is its first head. In red: those "
        "whose lies were refused, named by the correct replicas.</p></figcaption>"
    )
    return f'<figure>{caption}<div class="map">{"".join(regions)}</div></figure>'


def _style(member: int, head: int, named: set[int]) -> str:
    return "named" if member in named else "head" if member == head else ""


def _table(blocks: Blocks) -> str:
    """List the newest blocks, and whatever was noted about any."""
    shown = blocks.lines[-_MOST_BLOCKS:]
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in _row(line)) + "</tr>" for line in shown
    )
    heads = "".join(
        f"<th>{name}</th>" for name in ("block", "round", "view", "hash", "messages", "simulated", "wall")
    )
    older = len(blocks.lines) - len(shown)
    rest = f"<p>{older} older blocks are in ledger.jsonl.</p>" if older else ""
    noted: dict[str, list[int]] = defaultdict(list)
    for line in blocks.lines:
        for note in line["notes"]:
            noted[note].append(line["server_round"])
    told = "".join(f"<li>{_when(rounds)}: {code(note)}</li>" for note, rounds in noted.items())
    listed = f'<h3>What was noted</h3><ol class="errors">{told}</ol>' if told else ""
    return f'<div class="wide"><h3>Blocks</h3><table><tr>{heads}</tr>{rows}</table></div>{rest}{listed}'


def _row(line: Mapping[str, Any]) -> tuple[object, ...]:
    simulated = _MILLI.text(sum(line["simulated_ms"].values()))
    messages = sum(line["messages"].values())
    wall = _MILLI.text(line["wall_ms"]) if line["wall_ms"] else "with the next"
    return line["height"], line["server_round"], line["view"], line["hash"][:12], messages, simulated, wall


def _when(rounds: list[int]) -> str:
    return f"Rounds {rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else f"Round {rounds[0]}"
