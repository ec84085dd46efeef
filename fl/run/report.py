"""A run as one HTML page that needs nothing else: no network, no script, no other file."""

import string
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from fl.run.blocks import Blocks
from fl.run.folder import Manifest, read_manifest, read_metrics
from fl.run.history import History
from fl.run.reads import Reads
from fl.run.report_council import CouncilFacts, council
from fl.run.report_page import HEADLINES, SOURCES, Section, clients, facts, learning, reading, seconds
from shards.disk import write_atomically
from shards.errors import InputError


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
    council : CouncilFacts or None
        Who agreed on the rounds, and how; None where nobody did.
    """

    manifest: Manifest
    history: History
    reads: Reads | None
    council: CouncilFacts | None = None

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
        lines = read_metrics(path)
        return cls(read_manifest(path), History.of(lines), reads, CouncilFacts.load(path, Blocks.of(lines)))

    def sections(self) -> list[Section]:
        """Make the page's sections."""
        manifest, history = self.manifest, self.history
        made = [learning(manifest, history), clients(manifest, history), seconds(history)]
        made += [council(self.council)] if self.council else []
        private = [reading(self.reads)] if self.reads is not None else []
        return [*made, *private, facts(manifest, public=self.reads is None)]

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
        blocks = {"blocks": list(self.council.blocks.lines)} if self.council else {}
        return {
            **shown,
            "failed": history.failed,
            **({"reads": {**vars(self.reads)}} if self.reads else {}),
            **blocks,
        }

    def _header(self) -> str:
        manifest, rounds = self.manifest, self.history.rounds
        last = rounds[max(rounds)] if rounds else {}
        tiles: list[tuple[str, str, str]] = []
        for kind in HEADLINES:
            source = next((source for source in SOURCES if f"{source}_{kind}" in last), None)
            if source is not None and len(tiles) < 2:
                tiles.append((kind, f"{last[f'{source}_{kind}']:.4g}", SOURCES[source]))
        if "epsilon" in last:
            delta = manifest.config.get("delta")
            at = f", δ {delta:g}" if isinstance(delta, float) else ""
            tiles.append(("ε", f"{last['epsilon']:.3g}", f"worst record{at}"))
        tiles.append(("rounds", str(max(rounds, default=0)), f"{manifest.clients} clients"))
        if manifest.summary:
            tiles.append(("time", _duration(manifest.summary["wall_s"]), "on one machine"))
        if self.council and self.council.blocks.p50_ms is not None:
            tiles.append(("council", f"{self.council.blocks.p50_ms:.3g} ms", "a round, on this machine"))
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


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
