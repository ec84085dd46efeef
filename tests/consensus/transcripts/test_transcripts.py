"""Golden transcripts: scenarios with the whole message log that they must give, to be read and to be tested.

A scenario is a text file: paragraphs of a command, a line of dashes, and what happens. After a wanted change of the
protocol, ``REWRITE=1 pytest tests/consensus/transcripts`` writes them anew; read the difference before committing it.
Links are first in, first out, messages are delivered in the order of sending, and timers fire only when told to.

Commands: ``replicas N PROTOCOL [regions K] [spare S] [period P]``, ``request WORD [to REPLICAS]``,
``deliver COUNT``, ``stabilize``, ``drop FROM->TO [MESSAGE]`` (``*`` for all), ``heal``,
``crash REPLICA``, ``restart REPLICA``, ``fire TIMER at REPLICAS``, ``members REPLICAS`` (asked for by the admin),
``show records``.
"""

import os
from pathlib import Path

import pytest
from council import ADMIN, Council, key, null_schemes
from narrator import Narrator

from consensus.pbft.membership import change

SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))


class Scenario:
    """Carries out commands; `lines` since the last one are what is compared."""

    def __init__(self):
        self.council = None
        self.narrator = None
        self.drops = []

    def run(self, command):
        verb, *words = command.split()
        getattr(self, f"do_{verb}")(*words)
        return self.narrator.take()

    def do_replicas(self, n, protocol, *options):
        numbers = {name: int(value) for name, value in zip(options[::2], options[1::2], strict=True)}
        period = numbers.pop("period", 16)
        quorums = Council(int(n), protocol, numbers.get("regions", 1))[0].epoch.quorums
        self.narrator = Narrator(quorums)
        self.council = Council(
            int(n), protocol, saw=self.narrator.saw, schemes=null_schemes, period=period, window=2 * period,
            in_flight=2 * period, **numbers,
        )  # fmt: skip
        self.narrator.take()  # the greetings: everybody asks everybody for what it missed, which is nothing
        self.council.lost = self.loses

    def loses(self, sender, to, data, kind):
        told = self.narrator.told_of(data, sender)
        lost = any(
            source in ("*", str(sender)) and target in ("*", str(to)) and told.startswith(message)
            for source, target, message in self.drops
        )
        if lost:
            self.narrator.lost(sender, to, told)
        return lost

    def do_request(self, word, *rest):
        to = [int(place) for place in rest[1:]] or [0]
        self.narrator.lines.append(f"client → {' '.join(map(str, to))}  REQUEST {word}")
        self.council.ask(word.encode(), to=to)

    def do_members(self, *places):
        members = tuple(key(int(place)) if place != "-" else b"" for place in places)
        self.narrator.lines.append(f"admin → 0  REQUEST members {' '.join(places)}")
        self.council.ask(change(members), to=(0,), client=ADMIN)

    def do_deliver(self, count):
        self.council.deliver(int(count))

    def do_stabilize(self):
        self.council.deliver()

    def do_drop(self, link, message=""):
        self.drops.append((*link.split("->"), message))

    def do_heal(self):
        self.drops.clear()

    def do_crash(self, place):
        self.council.crash(int(place))

    def do_restart(self, place):
        self.council.restart(int(place))

    def do_fire(self, *words):
        at = words.index("at")
        timer = tuple(int(word) if word.isdigit() else word for word in words[:at])
        self.council.fire(timer, *map(int, words[at + 1 :]))

    def do_show(self, what):
        self.narrator.writes = what == "records"


def paragraphs(text):
    """Yield the comment lines before a command, the command and the lines expected after it."""
    comments, block = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("#") and not block:
            comments.append(line)
        elif line:
            block.append(line)
        elif block:
            yield comments, block[0], block[2:]
            comments, block = [], []
        elif comments:
            comments.append("")


def play(text):
    scenario, out = Scenario(), []
    for comments, command, _ in paragraphs(text):
        out += [*comments, command, "----", *scenario.run(command), ""]
    return "\n".join(out)


@pytest.mark.parametrize("path", SCENARIOS, ids=[path.stem for path in SCENARIOS])
def test_transcript(path):
    expected = path.read_text(encoding="utf-8")
    actual = play(expected)
    if os.environ.get("REWRITE"):
        path.write_text(actual, encoding="utf-8")
    else:
        assert actual.splitlines() == expected.splitlines(), (
            f"REWRITE=1 pytest {Path(__file__).parent} writes it anew"
        )


def test_the_same_scenario_plays_the_same_way_twice():
    text = SCENARIOS[0].read_text(encoding="utf-8")
    assert play(text) == play(text)
