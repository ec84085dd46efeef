"""The run folder, what a person sees of a run, and what a run reports."""

from fl.run.folder import Manifest, RunFolder
from fl.run.progress import MetricsLog, Printer
from fl.run.summary import Summary, model_digest

__all__ = ["Manifest", "MetricsLog", "Printer", "RunFolder", "Summary", "model_digest"]
