"""Tables and result files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Bar:
    """A figure that fedshard promises, and the one measured."""

    claim: str
    measured: float
    limit: float
    at_least: bool = True

    @property
    def passed(self) -> bool:
        """Whether the figure is on the right side of its limit."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def row(self) -> list[str]:
        """Return the cells of a table."""
        sign = "≥" if self.at_least else "≤"
        return [self.claim, f"{self.measured:.4g}", f"{sign} {self.limit:g}", "pass" if self.passed else "FAIL"]

    def as_dict(self) -> dict[str, Any]:
        """Return what the JSON file says."""
        limit = {"at_least" if self.at_least else "at_most": self.limit}
        return {"claim": self.claim, "measured": round(self.measured, 3), **limit, "passed": self.passed}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a Markdown table, readable on a terminal too."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        aligned = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return f"| {' | '.join(aligned)} |"

    rule = line(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join([line(header), rule, *map(line, rows)])


def setting(command: str, machine: Mapping[str, Any]) -> str:
    """Say in two lines what was run where."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"`{command}`, {machine['date']}; {machine['cores']} cores ({machine['cpu']}), "
        f"load average {machine['load_average']:.1f} at the start.  \n{versions}."
    )


def save(name: str, results: Mapping[str, Any], text: str) -> None:
    """Write ``results/NAME.json`` and ``results/NAME.md``, and print the latter."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(text.rstrip() + "\n", encoding="utf-8")
    print(text)
