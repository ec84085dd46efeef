"""What a person sees of a run: a line per round, and a live bar where there is a terminal."""

import sys
import time
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fl.engine.events import BatchEvent, RoundEvent
from fl.run.folder import RunFolder
from fl.run.watch import Dashboard

_LABELS = (
    ("test_accuracy", "accuracy {:.3f}"),
    ("test_rmse", "rmse {:.4g}"),
    ("test_loss", "loss {:.3f}"),
    ("client_accuracy", "client accuracy {:.3f}"),
    ("client_rmse", "client rmse {:.4g}"),
    ("client_loss", "client loss {:.3f}"),
    ("epsilon", "ε {:.2f}"),
)


class Printer:
    """Prints a line per round; on a terminal a bar, or a dashboard, stays below.

    Parameters
    ----------
    stream : text file
        Where to print: standard output, or standard error where that is kept for JSON.
    rounds_reported : bool
        Whether the ServerApp reports its rounds. For one that does not, exchanges get a line each; a legacy
        server's, one per message, are gathered by round and kind.

    Attributes
    ----------
    live : bool
        Whether there may be a live part; False leaves the terminal to a debugger.
    dashboard : Dashboard or None
        Shown in place of the bar; where there is no terminal, each round gets a second line.
    """

    def __init__(self, stream: IO[str] | None = None, rounds_reported: bool = True) -> None:
        self.rounds_reported = rounds_reported
        self.console = Console(file=stream or sys.stdout, highlight=False, markup=False, soft_wrap=True)
        self.live = True
        self.dashboard: Dashboard | None = None
        self._bar: Progress | None = None
        self._live: Live | None = None
        self._exchanges: list[BatchEvent] = []
        self._since = time.monotonic()

    def start(self) -> None:
        """Begin the live part, where the stream is a terminal that nothing else may want, as a debugger does."""
        self._since = time.monotonic()
        if not (self.live and self.console.is_terminal):
            return
        if self.dashboard is not None:
            self._live = Live(self.dashboard, console=self.console, transient=True)
            self._live.start()
        else:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.add_task("rounds", total=None)
            self._bar.start()

    def stop(self) -> None:
        """Print what is left and remove the live part."""
        if self._exchanges and not self.rounds_reported:
            self._print_exchanges()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._live is not None:
            self._live.stop()
            self._live = None

    def warn(self, text: str) -> None:
        """Print a line that must be seen."""
        self.console.print(text, style="yellow")

    def on_batch(self, event: BatchEvent) -> None:
        """Remember the exchange for its line; failures are printed at once."""
        if self._exchanges and not self.rounds_reported and _kind(self._exchanges[-1]) != _kind(event):
            self._print_exchanges()
        self._exchanges.append(event)
        if self.dashboard is not None:
            self.dashboard.on_batch(event)
        if event.failed:
            lost = f"{event.failed} of {event.sent} clients gave no usable reply"
            self.warn(f"  {_kind(event)}: {lost}; first: {event.error}")

    def on_round(self, event: RoundEvent) -> None:
        """Print the round's line."""
        exchanges, self._exchanges = self._exchanges, []
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        total = f"/{event.total_rounds}" if event.total_rounds else ""
        parts = [f"round {event.server_round:>3}{total}"]
        parts += [text.format(event.metrics[name]) for name, text in _LABELS if name in event.metrics]
        if trained := [e for e in exchanges if e.message_type.startswith("train")]:
            parts.append(f"{sum(e.replied for e in trained)}/{sum(e.sent for e in trained)} replies")
            parts.append("replayed" if all(e.replayed for e in trained) else f"{seconds:.1f} s")
        self.console.print("  ".join(parts))
        for note in [note for block in event.council for note in block["notes"]]:
            self.console.print(f"  council: {note}")
        if self.dashboard is not None:
            self.dashboard.on_round(event)
            if self._live is None:
                self.console.print(self.dashboard.line())
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=event.total_rounds, completed=event.server_round)

    def _print_exchanges(self) -> None:
        exchanges, self._exchanges = self._exchanges, []
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        replies = f"{sum(e.replied for e in exchanges)}/{sum(e.sent for e in exchanges)} replies"
        spent = "replayed" if all(e.replayed for e in exchanges) else f"{seconds:.1f} s"
        self.console.print(f"{_kind(exchanges[0])}  {replies}  {spent}")


class MetricsLog:
    """Writes every event to the run folder's ``metrics.jsonl``."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def on_batch(self, event: BatchEvent) -> None:
        """Log the exchange."""
        fields = {name: value for name, value in vars(event).items() if value not in (None, "", False, {})}
        self._folder.log("exchange", {**fields, "seconds": round(event.seconds, 4)})

    def on_round(self, event: RoundEvent) -> None:
        """Log the round's metrics, and what took the ServerApp how long."""
        self._folder.log("round", {"server_round": event.server_round, **event.metrics})
        if event.phases:
            self._folder.log("phases", {"server_round": event.server_round, **event.phases})
        for block in event.council:
            self._folder.log("block", {"server_round": event.server_round, **block})


def _kind(event: BatchEvent) -> str:
    return f"round {event.server_round:>3}  {event.message_type}" if event.server_round else event.message_type
