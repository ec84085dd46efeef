import argparse
import json
import re

import pytest

from fl.commands.consensus_explain import run
from shards.errors import InputError


def printed(capsys, nodes, regions=None, as_json=False):
    assert run(argparse.Namespace(nodes=nodes, regions=regions, json=as_json)) == 0
    return capsys.readouterr().out


def test_a_hundred_nodes_in_ten_regions_are_explained(capsys):
    text = printed(capsys, 100, 10)
    assert text.startswith("100 nodes, 10 regions of 10\n")
    rows = {line[:20].strip(): line[20:] for line in text.splitlines()[2:9]}
    assert re.split(r" {2,}", rows["regional"].strip()) == ["639", "96.8%", "33 (33%)", "34 anywhere"]
    assert re.split(r" {2,}", rows["two-layer"].strip()) == [
        "2,250", "88.6%", "15 (15%)", "16 as 4 in each of 4 regions"
    ]  # fmt: skip
    assert re.split(r" {2,}", rows["GeoBFT"].strip()) == ["3 (3%)", "4 in one region"]
    assert max(map(len, text.splitlines())) <= 80


def test_the_json_form_holds_the_same_and_odds_for_every_share(capsys):
    figures = json.loads(printed(capsys, 100, 10, as_json=True))
    assert (figures["nodes"], figures["regions"]) == (100, [10] * 10)
    schemes = {row["scheme"]: row for row in figures["schemes"]}
    assert schemes["flat"]["messages"] == 19_800
    assert schemes["two-layer"]["broken_by"] == 16
    assert [odds["faulty"] for odds in schemes["geo"]["random"]] == [10, 20, 25, 30]
    assert schemes["two-layer"]["random"][2]["breaks"] == pytest.approx(0.049, abs=0.001)
    assert schemes["representatives"]["messages"] is None


def test_four_nodes_have_a_row_per_share_though_the_counts_coincide(capsys):
    figures = json.loads(printed(capsys, 4, as_json=True))
    assert [odds["faulty"] for odds in figures["schemes"][0]["random"]] == [0, 1, 1, 1]
    assert "use flat" in printed(capsys, 4)


def test_the_number_of_regions_is_chosen_when_none_is_given(capsys):
    assert printed(capsys, 45).startswith("45 nodes, 4 regions of 11 or 12 (chosen")


@pytest.mark.parametrize(
    ("nodes", "regions", "option"), [(3, None, "--nodes"), (10, 11, "--regions"), (10, 0, "--regions")]
)
def test_what_cannot_be_is_refused_in_one_line(nodes, regions, option):
    with pytest.raises(InputError, match=rf"^{option} is [^\n]+$"):
        run(argparse.Namespace(nodes=nodes, regions=regions, json=False))
