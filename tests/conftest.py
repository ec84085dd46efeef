import os
from pathlib import Path

import pytest
from support import Cli

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)
