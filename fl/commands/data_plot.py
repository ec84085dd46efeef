"""``fedshard data plot``: a picture, and the figures, of how an app's records are split over its clients."""

import argparse
import json
import sys

from fl.commands.run import find_app
from fl.data import describe_split, plot_split
from fl.engine import AppSpec, parse_overrides
from fl.settings import Settings


def run(arguments: argparse.Namespace) -> int:
    """Draw the split of an app whose configuration names its data."""
    spec = AppSpec.load(find_app(arguments.app))
    sys.path.insert(0, str(spec.folder))
    config = {**spec.config, **parse_overrides(arguments.config, spec.config)}
    settings = Settings.read(config, str(spec.folder / "pyproject.toml"))
    count = arguments.clients or spec.clients
    source = settings.source()
    clients = [source.client(index, count) for index in range(count)]
    plot_split(clients, arguments.out, f"{spec.name}: {settings.data} over {count} clients")
    figures = describe_split(clients)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            text = ", ".join(f"{k} {v:g}" for k, v in value.items()) if isinstance(value, dict) else f"{value:.4g}"
            print(f"{name.replace('_', ' ')}: {text}")
        print(f"wrote {arguments.out}")
    return 0
