"""A run as one HTML page that needs nothing else: no network, no script, no other file."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from fl.run.charts import BYTES, FROM_ZERO, PLAIN, SECONDS, Band, Line, Unit, Values, line_chart, stacked_bars
from fl.run.folder import Manifest, read_manifest, read_metrics
from fl.run.heat_map import heat_map
from fl.run.history import WEIGHTS, History
from fl.run.reads import Reads
from shards.disk import write_atomically
from shards.errors import InputError

_SOURCES = {"test": "server's test set", "client": "clients, mean", "train": "training rows, mean"}
_FIRST = ("accuracy", "rmse", "loss")
_MOST_METRICS = 4
_MOST_ERRORS = 8
_UNSHARED = (
    "This section is made from the run's private folder: it tells what single clients read, and when. "
    "Do not share it; `fedshard report --public` leaves it out."
)


@dataclass(frozen=True)
class Section:
    """A heading, what is to be said, and charts (HTML)."""

    title: str
    text: Sequence[str] = ()
    charts: Sequence[str] = ()
    private: bool = False
    extra: str = ""

    def html(self) -> str:
        """Write the section."""
        warning = f'<p class="private">{_code(_UNSHARED)}</p>' if self.private else ""
        text = "".join(f"<p>{_code(line)}</p>" for line in self.text)
        charts = f'<div class="charts">{"".join(self.charts)}</div>' if self.charts else ""
        return f"<section><h2>{escape(self.title)}</h2>{warning}{text}{charts}{self.extra}</section>"


@dataclass(frozen=True)
class Report:
    """Everything a page is made of.

    Attributes
    ----------
    manifest : Manifest
        What was run, and how it ended.
    history : History
        What the run's log says.
    reads : Reads or None
        What clients read and decided; None where it must stay private.
    """

    manifest: Manifest
    history: History
    reads: Reads | None

    @classmethod
    def load(cls, path: Path, public: bool = False) -> "Report":
        """Read a run folder, of a run that may still be going on.

        Parameters
        ----------
        path : Path
            The folder.
        public : bool
            Whether to leave out what must not be shared.

        Raises
        ------
        InputError
            If the folder is no run, or one of its files is damaged.
        """
        reads = None if public else Reads.load(path / "private")
        return cls(read_manifest(path), History.of(read_metrics(path)), reads)

    @property
    def private(self) -> bool:
        """Whether the run trained under differential privacy."""
        return self.manifest.config.get("privacy") == "dp-sgd"

    def sections(self) -> list[Section]:
        """Make the page's sections."""
        made = [self._learning(), self._clients(), self._time()]
        return [*made, *([self._reads(self.reads)] if self.reads is not None else []), self._facts()]

    def write(self, out: Path) -> int:
        """Write the page, durably, and return its size in bytes.

        Raises
        ------
        InputError
            If it cannot be written there.
        DiskFullError
            If the disk is full; an older page stays.
        """
        template = string.Template(files("fl").joinpath("templates/report.html").read_text(encoding="utf-8"))
        body = "\n".join([self._header(), *(section.html() for section in self.sections())])
        page = template.substitute(title=escape(f"{self.manifest.run_id} · fedshard"), body=body).encode()
        try:
            write_atomically(out, page)
        except OSError as error:
            raise InputError(
                f"report {out}: cannot be written: {error.strerror}; name another file with --out"
            ) from error
        return len(page)

    def figures(self) -> dict[str, object]:
        """Return what the charts show, as plain JSON."""
        history = self.history
        shown = {"rounds": history.rounds, "clients": history.clients, "seconds": history.seconds}
        return {**shown, "failed": history.failed, **({"reads": asdict(self.reads)} if self.reads else {})}

    def _header(self) -> str:
        manifest, rounds = self.manifest, self.history.rounds
        last = rounds[max(rounds)] if rounds else {}
        tiles: list[tuple[str, str, str]] = []
        for kind in _FIRST:
            source = next((source for source in _SOURCES if f"{source}_{kind}" in last), None)
            if source is not None and len(tiles) < 2:
                tiles.append((kind, f"{last[f'{source}_{kind}']:.4g}", _SOURCES[source]))
        if "epsilon" in last:
            delta = manifest.config.get("delta")
            tiles.append(("ε", f"{last['epsilon']:.3g}", "worst record" + (f", δ {delta:g}" if delta else "")))
        tiles.append(("rounds", str(max(rounds, default=0)), f"{manifest.clients} clients"))
        if manifest.summary:
            tiles.append(("time", _duration(manifest.summary["wall_s"]), "on one machine"))
        if self.reads and self.reads.matching:
            ratio = sum(self.reads.read.values()) / max(1.0, sum(self.reads.matching.values()))
            tiles.append(("bytes read", f"{ratio:.3g} ×", "the bytes that matched"))
        cells = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
            for name, value, note in tiles
        )
        error = f'<p class="error">{escape(manifest.error)}</p>' if manifest.error else ""
        status = f'<span class="status {escape(manifest.status)}">{escape(manifest.status.replace("-", " "))}</span>'
        app = f"{manifest.name} with {manifest.clients} simulated clients, seed {manifest.seed}"
        return (
            f"<header><h1>{escape(manifest.run_id)} {status}</h1><p>{escape(app)}</p>{error}"
            f'<dl class="tiles">{cells}</dl></header>'
        )

    def _learning(self) -> Section:
        rounds = self.history.rounds
        if not rounds:
            return Section("Learning", ["No round was finished, so there is nothing to draw."])
        charts = []
        for kind, series in _by_kind(rounds).items():
            lines = [
                Line(_SOURCES.get(source, source), values, n) for n, (source, values) in enumerate(series.items())
            ]
            note = f"Measured on: {lines[0].label}" if len(lines) == 1 and lines[0].label else ""
            charts.append(line_chart(_title(kind), lines, note=note))
        return Section("Learning", [], [*charts, *self._epsilon()])

    def _epsilon(self) -> list[str]:
        spent = {
            number: metrics["epsilon"] for number, metrics in self.history.rounds.items() if "epsilon" in metrics
        }
        if not spent:
            return []
        budget = self.manifest.config.get("epsilon")
        limit = ("budget", float(budget)) if isinstance(budget, int | float) else None
        note = (
            "What the record that took part most often has spent, from the public plan. How it is spread over "
            "records is known to each client's own ledger only, and stays there."
        )
        return [
            line_chart(
                "Privacy spent, ε", [Line("ε of the worst record", spent)], unit=FROM_ZERO, limit=limit, note=note
            )
        ]

    def _clients(self) -> Section:
        metrics = self.history.clients
        if not metrics:
            withheld = (
                "None: privacy is on, and figures that clients measure on their own records would leak what the "
                "noise hides. Clients send their noised update and nothing else."
            )
            silent = "None: the clients of this app reported no figures of their own."
            return Section("What clients reported", [withheld if self.private else silent])
        chosen = sorted(metrics, key=_rank)[:_MOST_METRICS]
        text = ["What each client told the server of its own rows. Each has other data, so a spread is normal."]
        if len(metrics) > len(chosen):
            text.append(f"{len(metrics) - len(chosen)} more figures are in metrics.jsonl.")
        charts = []
        for name in chosen:
            charts += [_spread(f"{_title(name)}, over clients", metrics[name])]
            charts += [heat_map(f"{_title(name)}, by client", metrics[name], note=_extremes(metrics[name]))]
        return Section("What clients reported", text, charts)

    def _time(self) -> Section:
        history = self.history
        if not history.seconds:
            return Section("Time", ["No exchange with clients was logged."])
        text = ["Where each round's time went: waiting for clients, by kind of message, and the server's own work."]
        note = "Clients share this machine's cores and there is no network between them and the server."
        charts = [stacked_bars("Seconds per round", history.seconds, unit=SECONDS, note=note)]
        if any(history.failed.values()):
            charts.append(stacked_bars("Messages without a usable reply", {"failed": history.failed}))
        errors = "".join(f"<li>{escape(error)}</li>" for error in history.errors[:_MOST_ERRORS])
        more = len(history.errors) - _MOST_ERRORS
        rest = f"<p>{more} more exchanges had failures; metrics.jsonl has them.</p>" if more > 0 else ""
        listed = f'<h3>First failure of each exchange</h3><ol class="errors">{errors}</ol>{rest}' if errors else ""
        return Section("Time", text, charts, extra=listed)

    def _reads(self, reads: Reads) -> Section:
        title = "What clients read"
        if not reads.read and not reads.decisions:
            return Section(title, ["No reads were logged: the clients of this run read no shard store."])
        charts = []
        if reads.read:
            lines = [Line("read", reads.read, 1), Line("matching the request", reads.matching, 0)]
            charts = [
                line_chart("Bytes read, all clients", lines, unit=BYTES),
                heat_map("Bytes read, by client", reads.by_client, unit=BYTES, note=_most(reads.by_client)),
                _spread("Shards per client", reads.shards, FROM_ZERO),
            ]
        if reads.decisions:
            note = "Clients that kept their shards, moved a part, or cut anew, after the round."
            charts.append(stacked_bars("Decisions", reads.decisions, note=note))
        text = []
        if (first := min(reads.read, default=1)) > 1:
            text.append(f"The log keeps the newest reads only: it begins with round {first}.")
        if reads.outside:
            text.append(f"{reads.outside} reads outside the rounds are not drawn.")
        return Section(title, text, charts, private=True)

    def _facts(self) -> Section:
        manifest = self.manifest
        facts = {
            "app": manifest.app,
            "clients": manifest.clients,
            "seed": manifest.seed,
            "time limit": f"{manifest.client_timeout:g} s per message" if manifest.client_timeout else "none",
            "code digest": manifest.code[:16],
            "model digest": ((manifest.summary or {}).get("model_digest") or "none")[:16],
            **manifest.versions,
        }
        tables = _table("The run", facts) + _table("Configuration", manifest.config)
        notes = "".join(f"<li>{_code(note)}</li>" for note in self._simulated())
        listed = f"<div><h3>What is simulated</h3><ul>{notes}</ul></div>"
        return Section("Facts", extra=f'<div class="facts">{tables}{listed}</div>')

    def _simulated(self) -> list[str]:
        config = self.manifest.config
        notes = [f"All {self.manifest.clients} clients ran on one machine, as processes that share its cores."]
        notes.append("No network: times hold no latency and no bandwidth of one.")
        if "partitioner" in config:
            notes.append(f"One data set was dealt out to the clients (`partitioner = {config['partitioner']}`).")
        if self.private:
            notes.append("Client secrets derive from the run's seed: whoever has the seed can remove the noise.")
            notes.append("ε is the real cost of the training that was done; the noise is not secret from you.")
        return notes


def _by_kind(rounds: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, dict[int, float]]]:
    """Sort metrics into charts: kind → where it was measured → values by round."""
    charts: dict[str, dict[str, dict[int, float]]] = {}
    for number, metrics in rounds.items():
        for name, value in metrics.items():
            source, _, kind = name.partition("_")
            if source not in _SOURCES:
                source, kind = "", name
            if kind not in (*WEIGHTS, "epsilon"):
                charts.setdefault(kind, {}).setdefault(source, {})[number] = value
    for series in charts.values():
        for source in [source for source in _SOURCES if source in series]:  # test first: it takes the first colour
            series[source] = series.pop(source)
    return {kind: charts[kind] for kind in sorted(charts, key=_rank)}


def _rank(name: str) -> tuple[int, int, str]:
    """Order metrics: accuracy before loss, evaluation before training, then by name."""
    kind = next((index for index, known in enumerate(_FIRST) if name.endswith(known)), len(_FIRST))
    return kind, name.startswith("train "), name


def _title(name: str) -> str:
    """Name a chart after a metric; one that clients reported says when they did."""
    kind, _, metric = name.rpartition(" ")
    text = (metric if metric == "rmse" else metric[:1].upper() + metric[1:]).replace("_", " ")
    return f"{text} ({'training' if kind.startswith('train') else kind})" if kind else text


def _spread(title: str, rows: Mapping[str, Values], unit: Unit = PLAIN) -> str:
    """Draw the median over clients, the middle half and the whole range."""
    by_round: dict[int, list[float]] = {}
    for values in rows.values():
        for number, value in values.items():
            if np.isfinite(value):
                by_round.setdefault(number, []).append(value)
    quantiles = {number: np.quantile(values, (0, 0.25, 0.5, 0.75, 1)) for number, values in sorted(by_round.items())}
    low, quarter, median, three, high = (
        {number: float(found[level]) for number, found in quantiles.items()} for level in range(5)
    )
    bands = [Band("middle half", quarter, three), Band("all clients", low, high)]
    return line_chart(title, [Line("median client", median)], bands=bands, unit=unit)


def _extremes(rows: Mapping[str, Values]) -> str:
    """Name the clients with the lowest and the highest last value."""
    last = {client: values[max(values)] for client, values in rows.items() if np.isfinite(values[max(values)])}
    if len(last) < 2:
        return ""
    low, high = min(last, key=last.__getitem__), max(last, key=last.__getitem__)
    if last[low] == last[high]:
        return f"Last: {last[low]:.3g} at every client."
    return f"Last: lowest client {low} ({last[low]:.3g}), highest client {high} ({last[high]:.3g})."


def _most(rows: Mapping[str, Values]) -> str:
    """Name the client that read the most."""
    totals = {client: sum(values.values()) for client, values in rows.items()}
    top = max(totals, key=totals.__getitem__)
    return f"In all {BYTES.text(sum(totals.values()))}; the most by client {top} ({BYTES.text(totals[top])})."


def _table(title: str, facts: Mapping[str, object]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in facts.items())
    return f"<div><h3>{escape(title)}</h3><table>{rows}</table></div>"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _code(text: str) -> str:
    """Escape a text; what stands between backquotes becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
