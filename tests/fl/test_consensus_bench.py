import csv
import json

import numpy as np
import pytest

from fl.cli import main
from fl.commands.consensus_bench import faults, numbers, rate, regions, share, size
from fl.commands.consensus_plot import front

FEW = ["consensus", "bench", "--nodes", "4,10", "--rounds", "2"]


def test_a_table_names_the_setting_shows_both_baselines_and_every_bound(capsys):
    assert main(FEW) == 0
    out = capsys.readouterr().out
    assert "earth, replicas placed even over sites, best leader" in out
    lines = [
        line for line in out.splitlines() if line.startswith(("flat inline ", "flat ", "flat-mac ", "two-layer "))
    ]
    assert len(lines) > 8
    assert "regional (ran flat)" in out  # with 4 replicas
    assert "data plane" in out


def test_json_and_csv_hold_the_same_figures(tmp_path, capsys):
    table = tmp_path / "figures.csv"
    assert main([*FEW, "--protocols", "regional", "--json", "--csv", str(table)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["protocol"] for row in rows] == ["flat inline", "flat", "flat-mac", "regional"] * 2
    with table.open(encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert [float(row["client_p50_s"]) for row in written] == pytest.approx([row["client_p50_s"] for row in rows])
    assert rows[-1]["messages_vote"] == 9 + 4 * 6 + 2 * 4 * 3
    assert rows[4]["messages_vote"] == 2 * 10 * 9
    assert rows[4]["survives"] == 3


def test_equal_seeds_print_equal_figures(capsys):
    outputs = []
    for seed in ("1", "1", "2"):
        main([*FEW, "--seed", seed, "--json"])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_a_load_is_a_share_of_what_flat_carries(capsys):
    assert main(["consensus", "bench", "--nodes", "4", "--load", "50%", "--protocols", "flat", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[1]["rate_per_s"] == pytest.approx(0.5 * rows[1]["carries_per_s"], rel=0.05)
    assert rows[1]["rounds"] == 40


def test_the_picture_is_one(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "pareto.png"
    assert main([*FEW, "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_only_what_nothing_beats_in_every_respect_is_on_the_front():
    points = np.array([[1.0, 5.0], [2.0, 4.0], [2.0, 5.0], [3.0, 3.0], [3.0, 3.0], [9.0, 9.0]])
    assert front(points).tolist() == [True, True, False, True, True, False]


def test_sizes_rates_and_shares_are_read():
    assert [size("1kB"), size("1MB"), size("10B"), size("2.5 kB")] == [1000, 10**6, 10, 2500]
    assert [rate("100M"), rate("1G"), rate("64k"), rate("5")] == [1e8, 1e9, 64e3, 5.0]
    assert [share("0.8"), share("80%")] == [0.8, 0.8]
    assert [regions("auto"), regions("sites"), regions("7")] == ["auto", "sites", 7]
    assert [faults("none"), faults("silent:3"), faults("heads:1")] == [("none", 0), ("silent", 3), ("heads", 1)]
    assert numbers("--nodes", "4, 16", int, "numbers") == [4, 16]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--nodes", "four"], "--nodes 'four'"),
        (["--nodes", "3"], "at least 4"),
        (["--payload", "1mb"], "--payload '1mb'"),
        (["--payload", "0kB"], "--payload '0kB'"),
        (["--link", "fast"], "--link 'fast'"),
        (["--regions", "some"], "--regions 'some'"),
        (["--regions", "99"], "from 1 to 4"),
        (["--faults", "silent"], "--faults 'silent'"),
        (["--faults", "silent:2"], "survives 1"),
        (["--faults", "flood"], "--faults 'flood'"),
        (["--load", "much"], "--load 'much'"),
        (["--protocols", "regionl"], "regional"),
        (["--network", "no-such-file.csv"], "no-such-file.csv"),
        (["--csv", "/no/such/folder/x.csv", "--protocols", "flat"], "/no/such/folder"),
        (["--real", "--protocols", "flat-mac"], "simulated only"),
        (["--real", "--nodes", "100"], "at most 16"),
    ],
)
def test_a_bad_option_ends_in_one_line_that_names_it(options, says, capsys):
    assert main(["consensus", "bench", "--nodes", "4", "--rounds", "1", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
