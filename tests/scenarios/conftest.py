"""The scenarios' data: the real files where ``../shared/data`` has them, a generated stand-in in any case."""

from pathlib import Path

import pytest
import stand_in
from support import ROOT

from fl.engine import AppSpec
from fl.loader import Place

STAND_INS = {"hospitals": stand_in.hospitals, "activity": stand_in.signals, "air-quality": stand_in.stations}


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in STAND_INS.items()}


@pytest.fixture(params=["stand-in data", "real data"])
def folders(request, stand_ins):
    """Each scenario's data folder; the test's id says which data they hold."""
    if request.param == "stand-in data":
        return stand_ins
    if not stand_in.SHARED.is_dir():
        pytest.skip("no ../shared/data here: only the stand-in was tested")
    return stand_in.REAL


@pytest.fixture
def scenario(monkeypatch):
    """Make a scenario's modules importable and return a function that makes the place its loader is told."""

    def prepare(name, folder, **user):
        spec = AppSpec.load(ROOT / "scenarios" / name)
        monkeypatch.syspath_prepend(str(spec.folder))
        own = {key.removeprefix("user."): value for key, value in spec.config.items() if key.startswith("user.")}
        own |= {key.replace("_", "-"): value for key, value in user.items()}
        return Place(Path(folder), 0, tuple(sorted(own.items())))

    return prepare
