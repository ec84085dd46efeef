"""Federated learning: engine, client data, privacy, apps and the command line."""

from fl.version import __version__

__all__ = ["__version__"]
