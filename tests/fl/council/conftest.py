import gc

import pytest

from fl.council.council import Council, Plan
from fl.council.faults import Faults
from fl.council.rounds import forge
from fl.engine import flower


@pytest.fixture(autouse=True)
def identity():
    flower.set_identity(1, flower.SUPERLINK_NODE_ID)


@pytest.fixture(autouse=True)
def little_to_collect():
    """Flower collects garbage whenever it turns a record into arrays: keep what the tests loaded out of that."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def council(tmp_path):
    """Make a council in a folder of its own."""
    made = iter(range(100))

    def make(size=10, faults="", protocol="regional", folder=None):
        folder = folder or tmp_path / f"council-{next(made)}"
        (folder / "private").mkdir(parents=True, exist_ok=True)
        return Council(Plan.of(size, protocol, Faults.parse(faults)), folder, folder / "private", 7, forge)

    return make
