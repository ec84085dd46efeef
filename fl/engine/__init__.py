"""The engine: any Flower ServerApp and ClientApp on one machine, without Ray and without polling."""

from fl.engine.app import AppSpec, parse_overrides
from fl.engine.engine import Apps, Options, Outcome, run_apps
from fl.engine.events import BatchEvent, Observer, RoundEvent
from fl.engine.grid import EngineGrid
from fl.engine.snapshot import SnapshotStore

__all__ = [
    "AppSpec",
    "Apps",
    "BatchEvent",
    "EngineGrid",
    "Observer",
    "Options",
    "Outcome",
    "RoundEvent",
    "SnapshotStore",
    "parse_overrides",
    "run_apps",
]
