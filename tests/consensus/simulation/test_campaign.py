import msgspec
import pytest

from consensus.simulation import campaign
from consensus.simulation.campaign import Block, main, missing, scenario_of
from shards.errors import InputError


def test_a_campaign_goes_on_where_it_stopped_and_leaves_nothing_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(campaign, "BLOCK", 5)
    out = tmp_path / "seeds.jsonl"
    assert main(["twins-flat-4-1-2", "--count", "10", "--out", str(out)]) == 0
    first = out.read_bytes()
    assert len(first.splitlines()) == 2
    assert main(["twins-flat-4-1-2", "--count", "15", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(first)
    blocks = [msgspec.json.decode(line, type=Block) for line in out.read_bytes().splitlines()]
    assert [(block.first, block.count) for block in blocks] == [(0, 5), (5, 5), (10, 5)]
    assert "15 scenarios" in capsys.readouterr().out


def test_a_failure_stays_in_the_file_and_in_the_exit_status(tmp_path, capsys):
    block = Block("random", 0, 100, 1, 1, 1, {}, {"flat": 100}, {7: ["agreement: number 1"]})
    out = tmp_path / "seeds.jsonl"
    out.write_bytes(msgspec.json.encode(block) + b"\n")
    assert main(["random", "--count", "100", "--out", str(out)]) == 1
    assert "7: agreement: number 1" in capsys.readouterr().out


def test_only_what_is_missing_is_run():
    done = [Block("random", 100, 100, 1, 1, 1, {}, {}, {}), Block("twins-flat-4-1-2", 0, 100, 1, 1, 1, {}, {}, {})]
    assert missing(done, "random", 250) == [(0, 100), (200, 50)]


@pytest.mark.parametrize("family", ["rondom", "twins-flat-4", "twins-flat-4-1-x", "triplets-flat-4-1-2"])
def test_an_unknown_family_is_refused_in_one_line(family, tmp_path, capsys):
    with pytest.raises(InputError, match="not known"):
        scenario_of(family)
    assert main([family, "--out", str(tmp_path / "x")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_families_number_all_protocols():
    assert scenario_of("twins-regional-fast-6-1-2")(3).protocol == "regional-fast"
    assert scenario_of("twins-flat-7-2-4")(3).twins != ()
    assert scenario_of("random")(3).seed == 3
