"""docs/consensus.md: the protocol of one's own runs, as it stands there."""

import re

import pytest
from support import ROOT

from consensus.bench import Case, measure
from consensus.simulation.latency import network

TEXT = (ROOT / "docs/consensus.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("n", [4, 7])
def test_the_protocol_of_ones_own_agrees(tmp_path, monkeypatch, n):
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(source.splitlines()) < 50
    (tmp_path / "two_collectors.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    figures = measure(Case("two_collectors:TWO_COLLECTORS", n, network("lan"), "lan", rounds=3))
    assert figures.decisions == 3
    others = n - 2  # proposal; PREPARE of the others to both; COMMIT of all; two certificates of two collectors
    assert figures.messages["vote"] == (n - 1) + (2 * others + 1) + (2 * others + 2) + 2 * 2 * others


def test_every_file_it_names_exists():
    for name in re.findall(r"`((?:pbft|protocols|tests)?/?[a-z_/]+\.py)`", TEXT):
        folder = ROOT / "consensus" / name
        if name == "two_collectors.py":
            continue
        assert folder.is_file() or (ROOT / name).is_file() or (ROOT / "consensus/pbft" / name).is_file(), name
