"""Every name fedshard uses of Opacus, imported in one place.

Importing Opacus calls `logging.basicConfig`, which would put a handler of its choosing on the root
logger of whatever program imports fedshard. The handlers found before are put back.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Undo what the block does to the root logger's handlers and level."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


with _root_logger_kept():
    from opacus import GradSampleModule
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent
    from opacus.optimizers import DPOptimizer
    from opacus.validators import ModuleValidator

__all__ = [
    "DPOptimizer",
    "GradSampleModule",
    "ModuleValidator",
    "RDPAccountant",
    "compute_rdp",
    "get_privacy_spent",
]
