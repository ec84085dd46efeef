"""``fedshard data fetch``: the public original of a scenario's data, downloaded and checked."""

import argparse
import json

from fl.data.fetch import ORIGINALS, fetch
from fl.home import home


def run(arguments: argparse.Namespace) -> int:
    """Download, or check what an earlier call left; say where it is and whose it is."""
    folder = arguments.folder or home() / "data" / arguments.scenario
    files = fetch(arguments.scenario, folder)
    original = ORIGINALS[arguments.scenario]
    if arguments.json:
        print(json.dumps({"scenario": arguments.scenario, "folder": str(folder), "files": [f.name for f in files]}))
        return 0
    print(f"{len(files)} files in {folder}, checked against {original.sha256[:12]}… ({original.credit})")
    print(f"run it: fedshard run scenarios/{arguments.scenario} -c data={folder}")
    return 0
