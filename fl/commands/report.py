"""``fedshard report``: one run as an HTML page."""

import argparse

from fl.commands.run import find_run
from fl.run.report import Report
from fl.run.summary import to_json


def run(arguments: argparse.Namespace) -> int:
    """Write the page, into the run's folder unless told otherwise; with ``--json``, print its figures too."""
    path = find_run(arguments.run, arguments.runs_dir)
    report = Report.load(path, arguments.public)
    out = arguments.out or path / ("report-public.html" if arguments.public else "report.html")
    size = report.write(out)
    if arguments.json:
        print(to_json({"page": str(out), "bytes": size, **report.figures()}))
    else:
        print(f"wrote {out} ({size / 1e3:.0f} kB)")
    return 0
