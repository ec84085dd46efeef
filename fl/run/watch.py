"""The report's figures, live in a terminal: what a person watches while a run goes on."""

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fl.engine.events import BatchEvent, RoundEvent
from fl.run.charts import BYTES
from fl.run.folder import RunFolder
from fl.run.history import SERVER
from fl.run.reads import ACCESS_LOG, round_in
from shards.access import AccessLog
from shards.errors import FedshardError

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 28  # columns of a line of blocks, and rounds that it shows
_READS_PER_CLIENT = 4  # at most, in one round
_SHOWN = ("accuracy", "rmse", "loss")


class Dashboard:
    """An observer of a run that rich can draw; also tells each round in one plain line.

    Parameters
    ----------
    folder : RunFolder
        The run's folder; clients log what they read in its private part.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._log = AccessLog(folder.private / ACCESS_LOG)
        self._most_reads = _READS_PER_CLIENT * folder.manifest.clients
        budget = folder.manifest.config.get("epsilon")
        self._budget = float(budget) if isinstance(budget, int | float) else 0.0
        self._metrics: dict[str, list[float]] = defaultdict(list)
        self._read: list[float] = []
        self._matching: list[float] = []
        self._seconds: dict[str, float] = {}
        self._current: dict[str, float] = defaultdict(float)
        self._failing = ""
        self._round, self._total = 0, 0
        self._started = time.monotonic()
        self._since: float | None = None  # the end of the round before, or the start of the first exchange

    def on_batch(self, event: BatchEvent) -> None:
        """Take in how long an exchange took and who failed."""
        if self._since is None:
            self._since = time.monotonic() - event.seconds
        self._current[event.message_type] += event.seconds
        if event.failed:
            said = f"round {event.server_round}, {event.message_type}" if event.server_round else event.message_type
            self._failing = f"failing  {said}: {event.failed} of {event.sent}; first: {event.error}"

    def on_round(self, event: RoundEvent) -> None:
        """Take in how the round went, and what clients have logged of it."""
        now = time.monotonic()
        server = now - (self._since or now) - sum(self._current.values())
        self._seconds, self._since = {**self._current, SERVER: max(0.0, server)}, now
        self._current.clear()
        self._round, self._total = event.server_round, event.total_rounds or 0
        for name, value in event.metrics.items():
            self._metrics[name].append(value)
        self._take_reads(event.server_round)

    def line(self) -> str:
        """Tell the newest round's reads and times, for output that is no terminal."""
        parts = [f"{phase} {seconds:.2f} s" for phase, seconds in self._seconds.items()]
        return "  ".join(["        ", *([f"read {self._reads_text()}"] if self._read else []), *parts])

    def __rich__(self) -> RenderableType:
        """Draw everything known by now."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", justify="right")
        rounds = f"{self._round}/{self._total}" if self._total else str(self._round)
        done = _bar(self._round / self._total if self._total else 0.0)
        table.add_row("round", done, f"{rounds}  {time.monotonic() - self._started:.0f} s")
        for kind in _SHOWN:
            for source, said in (("test", "test set"), ("client", "clients, mean")):
                if values := self._metrics.get(f"{source}_{kind}"):
                    table.add_row(kind, Text(sparkline(values), "cyan"), f"{values[-1]:.4g}  {said}")
        if spent := self._metrics.get("epsilon"):
            share = spent[-1] / self._budget if self._budget else 0.0
            of = f" of {self._budget:g}" if self._budget else ""
            table.add_row("ε", _bar(share, "magenta"), f"{spent[-1]:.3g}{of}  worst record")
        if self._read:
            top = max(self._read)
            table.add_row("read", Text(sparkline(self._read, 0.0, top), "yellow"), self._reads_text())
            table.add_row("matching", Text(sparkline(self._matching, 0.0, top), "cyan"), "on the same scale")
        table.add_row("time", _shares(self._seconds), "  ".join(f"{k} {v:.2f} s" for k, v in self._seconds.items()))
        failing = [Text(self._failing, "yellow", overflow="ellipsis", no_wrap=True)] if self._failing else []
        return Group(table, *failing)

    def _take_reads(self, number: int) -> None:
        try:
            newest = self._log.read(last=self._most_reads)
        except FedshardError:  # a damaged log is the report's to explain; it must not end a run
            return
        if reads := [access for access in newest if round_in(access.event) == number]:
            self._read.append(sum(access.bytes_read for access in reads))
            self._matching.append(sum(access.bytes_matching for access in reads))

    def _reads_text(self) -> str:
        read, matching = self._read[-1], self._matching[-1]
        ratio = f" ({read / matching:.2f} ×)" if matching else ""
        return f"{BYTES.text(read)} for {BYTES.text(matching)} matching{ratio}"


def sparkline(values: Sequence[float], low: float | None = None, high: float | None = None) -> str:
    """Draw the newest values as blocks, from the smallest (or `low`) to the largest (or `high`); NaN is blank."""
    shown = values[-_WIDTH:]
    finite = [value for value in shown if math.isfinite(value)]
    bottom = min(finite, default=0.0) if low is None else low
    span = (max(finite, default=0.0) if high is None else high) - bottom

    def block(value: float) -> str:
        share = (value - bottom) / span if span else 0.0
        return _BLOCKS[round(share * (len(_BLOCKS) - 1))] if math.isfinite(value) else " "

    return "".join(map(block, shown))


def _bar(share: float, style: str = "green") -> Text:
    filled = round(min(1.0, max(0.0, share)) * _WIDTH)
    return Text("━" * filled, style) + Text("━" * (_WIDTH - filled), "bright_black")


def _shares(seconds: Mapping[str, float]) -> Text:
    """Draw what each phase took of the whole."""
    total = sum(seconds.values())
    bar, styles = Text(), ("blue", "cyan", "green", "magenta")
    for index, value in enumerate(seconds.values()):
        bar += Text("█" * round(value / total * _WIDTH if total else 0), styles[index % len(styles)])
    return bar
