"""The sections of a run's page: which charts, and what a reader must be told about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from fl.run.charts import BYTES, FROM_ZERO, PLAIN, SECONDS, Band, Line, Unit, Values, line_chart, stacked_bars
from fl.run.folder import Manifest
from fl.run.heat_map import heat_map
from fl.run.history import WEIGHTS, History
from fl.run.reads import Reads, by_name

SOURCES = {"test": "server's test set", "client": "clients, mean", "train": "training rows, mean"}
"""What the first word of a metric's name says of where it was measured."""

HEADLINES = ("accuracy", "rmse", "loss")
"""The metrics to look at first."""

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
        warning = f'<p class="private">{code(_UNSHARED)}</p>' if self.private else ""
        text = "".join(f"<p>{code(line)}</p>" for line in self.text)
        charts = f'<div class="charts">{"".join(self.charts)}</div>' if self.charts else ""
        return f"<section><h2>{escape(self.title)}</h2>{warning}{text}{charts}{self.extra}</section>"


def is_private(manifest: Manifest) -> bool:
    """Tell whether the run trained under differential privacy."""
    return manifest.config.get("privacy") == "dp-sgd"


def learning(manifest: Manifest, history: History) -> Section:
    """Draw metrics by round, and ε where privacy is on."""
    rounds = history.rounds
    if not rounds:
        return Section("Learning", ["No round was finished, so there is nothing to draw."])
    charts = []
    for kind, series in _by_kind(rounds).items():
        lines = [Line(SOURCES.get(at, at), values, index) for index, (at, values) in enumerate(series.items())]
        note = f"Measured on: {lines[0].label}" if len(lines) == 1 and lines[0].label else ""
        charts.append(line_chart(_title(kind), lines, note=note))
    row = str(manifest.config.get("test-by") or "group")
    for kind, groups in _by_group(rounds).items():
        title, note = f"{_title(kind)} by {row}", f"Measured on: {SOURCES['test']}. {_extremes(groups, row)}"
        charts.append(heat_map(title, groups, row=row, note=note))
    spent = {number: found["epsilon"] for number, found in rounds.items() if "epsilon" in found}
    if spent:
        return Section("Learning", charts=[*charts, _epsilon(manifest, spent)])
    off = "Privacy was off, so there is no ε: updates reveal the clients' records."
    return Section("Learning", [off if manifest.config.get("privacy") == "off" else "The app reported no ε."], charts)


def _epsilon(manifest: Manifest, spent: Values) -> str:
    budget = manifest.config.get("epsilon")
    limit = ("budget", float(budget)) if isinstance(budget, int | float) else None
    note = (
        "What the record that took part most often has spent, from the public plan. How it is spread over "
        "records is known to each client's own ledger only, and stays there."
    )
    worst = [Line("ε of the worst record", spent)]
    return line_chart("Privacy spent, ε", worst, unit=FROM_ZERO, limit=limit, note=note)


def clients(manifest: Manifest, history: History) -> Section:
    """Draw what clients told of their own rows: its spread, and a map; or say why they told nothing."""
    metrics = history.clients
    if not metrics:
        withheld = (
            "None: privacy is on, and figures that clients measure on their own records would leak what the "
            "noise hides. Clients send their noised update and nothing else."
        )
        silent = "None: the clients of this app reported no figures of their own."
        return Section("What clients reported", [withheld if is_private(manifest) else silent])
    chosen = sorted(metrics, key=_rank)[:_MOST_METRICS]
    text = ["What each client told the server of its own rows. Each has other data, so a spread is normal."]
    if len(metrics) > len(chosen):
        text.append(f"{len(metrics) - len(chosen)} more figures are in metrics.jsonl.")
    charts = []
    for name in chosen:
        charts += [_spread(f"{_title(name)}, over clients", metrics[name])]
        charts += [heat_map(f"{_title(name)}, by client", metrics[name], note=_extremes(metrics[name]))]
    return Section("What clients reported", text, charts)


def seconds(history: History) -> Section:
    """Draw what time went into, and list failures."""
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


def reading(reads: Reads) -> Section:
    """Draw what clients read and decided: not to be shared."""
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
        note = (
            "Clients that kept their shards, moved a part, or cut anew, after the round. No bar: nothing to decide."
        )
        charts.append(stacked_bars("Decisions", reads.decisions, note=note))
    text = []
    if (first := min(reads.read, default=1)) > 1:
        text.append(f"The log keeps the newest reads only: it begins with round {first}.")
    if reads.outside:
        text.append(f"{reads.outside} reads outside the rounds are not drawn.")
    return Section(title, text, charts, private=True)


def facts(manifest: Manifest, public: bool) -> Section:
    """Tell what was run, and what of it is simulated; a public page names no folder of this machine."""
    rows = {
        "app": manifest.name if public else manifest.app,
        "clients": manifest.clients,
        "seed": manifest.seed,
        "time limit": f"{manifest.client_timeout:g} s per message" if manifest.client_timeout else "none",
        "code digest": manifest.code[:16],
        "model digest": ((manifest.summary or {}).get("model_digest") or "none")[:16],
        **manifest.versions,
    }
    tables = _table("The run", rows) + _table("Configuration", manifest.config)
    notes = "".join(f"<li>{code(note)}</li>" for note in _simulated(manifest))
    listed = f"<div><h3>What is simulated</h3><ul>{notes}</ul></div>"
    return Section("Facts", extra=f'<div class="facts">{tables}{listed}</div>')


def _simulated(manifest: Manifest) -> list[str]:
    config = manifest.config
    notes = [f"All {manifest.clients} clients ran on one machine, as processes that share its cores."]
    notes.append("No network: times hold no latency and no bandwidth of one.")
    if "partitioner" in config:
        notes.append(f"One data set was dealt out to the clients (`partitioner = {config['partitioner']}`).")
    if is_private(manifest):
        notes.append("Client secrets derive from the run's seed: whoever has the seed can remove the noise.")
        notes.append("ε is the real cost of the training that was done; the noise is not secret from you.")
    return notes


def _by_kind(rounds: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, dict[int, float]]]:
    """Sort metrics into charts: kind → where it was measured → values by round."""
    charts: dict[str, dict[str, dict[int, float]]] = {}
    for number, metrics in rounds.items():
        for name, value in metrics.items():
            source, _, kind = name.partition("_")
            if source not in SOURCES:
                source, kind = "", name
            if kind not in (*WEIGHTS, "epsilon") and "/" not in kind:
                charts.setdefault(kind, {}).setdefault(source, {})[number] = value
    for series in charts.values():
        for source in [source for source in SOURCES if source in series]:  # test first: it takes the first colour
            series[source] = series.pop(source)
    return {kind: charts[kind] for kind in sorted(charts, key=_rank)}


def _by_group(rounds: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, dict[int, float]]]:
    """Collect the test metrics of each group of the test set: kind → group → values by round."""
    maps: dict[str, dict[str, dict[int, float]]] = {}
    for number, metrics in rounds.items():
        for name, value in metrics.items():
            kind, slash, group = name.removeprefix("test_").partition("/")
            if slash and name.startswith("test_"):
                maps.setdefault(kind, {}).setdefault(group, {})[number] = value
    return {kind: by_name(maps[kind]) for kind in sorted(maps, key=_rank)}


def _rank(name: str) -> tuple[int, int, str]:
    """Order metrics: accuracy before loss, evaluation before training, then by name."""
    kind = next((index for index, known in enumerate(HEADLINES) if name.endswith(known)), len(HEADLINES))
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


def _extremes(rows: Mapping[str, Values], row: str = "client") -> str:
    """Name the rows, clients or others, with the lowest and the highest last value."""
    last = {client: values[max(values)] for client, values in rows.items() if np.isfinite(values[max(values)])}
    if len(last) < 2:
        return ""
    low, high = min(last, key=last.__getitem__), max(last, key=last.__getitem__)
    if last[low] == last[high]:
        return f"Last: {last[low]:.3g} at every {row}."
    return f"Last: lowest {row} {low} ({last[low]:.3g}), highest {row} {high} ({last[high]:.3g})."


def _most(rows: Mapping[str, Values]) -> str:
    """Name the client that read the most."""
    totals = {client: sum(values.values()) for client, values in rows.items()}
    top = max(totals, key=totals.__getitem__)
    return f"In all {BYTES.text(sum(totals.values()))}; the most by client {top} ({BYTES.text(totals[top])})."


def _table(title: str, facts: Mapping[str, object]) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in facts.items())
    return f"<div><h3>{escape(title)}</h3><table>{rows}</table></div>"


def code(text: str) -> str:
    """Escape a text; what stands between backquotes becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
