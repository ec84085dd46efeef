"""The page of a run with a council: who is where, what each block took, and who was named."""

import json

import pytest

from consensus.ledger import Genesis
from fl.run.blocks import Blocks
from fl.run.report import Report
from shards.errors import InputError

LIE = "replica 3, as leader, proposed what 7 replicas refused: aggregate ab is false: recomputed <cd>"


def block(height, server_round, wall, **more):
    return {
        **{"kind": "block", "height": height, "server_round": server_round, "hash": f"{height:064x}", "view": 0},
        **{"wall_ms": wall, "simulated_ms": {"order": 0.0, "prepare": 276.5, "commit": 119.2, "answer": 60.3}},
        **{"messages": {"vote": 57, "answer": 10}, "bytes": {"vote": 9000}, "notes": []},
        **more,
    }


@pytest.fixture
def with_council(made_run):
    path = made_run(rounds=2)
    Genesis("regional", ("00" * 32,) * 10, ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)), "for a test").write(path)
    lines = [block(1, 1, 0.0), block(2, 1, 12.5), block(3, 2, 14.5, notes=[LIE])]
    with (path / "metrics.jsonl").open("a") as log:
        for line in [*lines, block(2, 1, 11.5)]:  # a resumed run repeats a line: the last word counts
            log.write(json.dumps(line) + "\n")
    return path


def test_the_page_shows_the_map_the_phases_and_the_blocks(with_council, tmp_path):
    report = Report.load(with_council, public=True)
    page = tmp_path / "page.html"
    report.write(page)
    text = page.read_text()
    assert "Council simulated in the server process: 10 replicas" in text
    assert "survives 3 faulty ones" in text
    assert text.count('<li class="head"') == 2
    assert text.count('<li class="named"') == 1  # replica 3
    assert "Simulated latency by phase" in text
    assert "Messages by kind" in text
    assert "recomputed &lt;cd&gt;" in text
    assert "recomputed <cd>" not in text
    assert [line["height"] for line in report.figures()["blocks"]] == [1, 2, 3]


def test_figures_of_blocks_take_the_last_word_and_rounds_with_wall_time(with_council):
    facts = Report.load(with_council).council
    assert facts.blocks.height == 3
    assert facts.blocks.p50_ms == 13.0  # of 11.5 and 14.5; the first block's time stands with the second


def test_a_run_without_a_council_has_no_such_section(made_run):
    report = Report.load(made_run(rounds=2))
    assert report.council is None
    assert "Council" not in [section.title for section in report.sections()]
    assert Blocks.of([]).p50_ms is None
    assert Blocks.of([]).height == 0


def test_a_damaged_genesis_is_one_line(with_council):
    (with_council / "genesis.json").write_text("{}")
    with pytest.raises(InputError, match="not a council's genesis"):
        Report.load(with_council)
