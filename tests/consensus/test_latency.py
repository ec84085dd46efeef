import math
from pathlib import Path

import numpy as np
import pytest

from consensus.simulation import earth
from consensus.simulation.latency import BUILT_IN, assign, jitter_from, load, network, place
from shards.errors import InputError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "latency"
measured = pytest.mark.skipif(not DATA.is_dir(), reason="the measured matrices are not on this machine")

AWS_CITIES = {
    "af-south-1": "CapeTown", "ap-east-1": "HongKong", "ap-northeast-1": "Tokyo", "ap-northeast-2": "Seoul",
    "ap-northeast-3": "Osaka", "ap-south-1": "Mumbai", "ap-southeast-1": "Singapore", "ap-southeast-2": "Sydney",
    "ca-central-1": "Montreal", "eu-central-1": "Frankfurt", "eu-north-1": "Stockholm", "eu-south-1": "Milan",
    "eu-west-1": "Dublin", "eu-west-2": "London", "eu-west-3": "Paris", "me-south-1": "Bahrain",
    "sa-east-1": "SaoPaulo", "us-east-1": "Washington", "us-east-2": "Columbus", "us-west-1": "SanJose",
    "us-west-2": "Portland",
}  # fmt: skip


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def error_of(path):
    with pytest.raises(InputError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_csv_is_read_with_units_a_trailing_comma_and_both_directions(tmp_path):
    latency = load(written(tmp_path, "a.csv", ",Rome,New York,\nRome,1.5ms,80\nNew York,90 ms,0,\n"))
    assert latency.names == ("Rome", "New York")
    assert latency.rtt_ms.tolist() == [[1.5, 80], [90, 3]]  # 3: within a site, where nothing is said
    assert not latency.jitter.any()


def test_json_is_read_alone_or_under_data(tmp_path):
    plain = load(written(tmp_path, "a.json", '{"b": {"a": 20, "b": 1}, "a": {"a": 2, "b": 30}}'))
    nested = load(written(tmp_path, "b.json", '{"data": {"b": {"a": 20, "b": 1}, "a": {"a": 2, "b": 30}}}'))
    assert plain.names == nested.names == ("a", "b")
    assert plain.rtt_ms.tolist() == nested.rtt_ms.tolist() == [[2, 30], [20, 1]]


def test_what_was_not_measured_is_the_other_direction_or_the_shortest_detour(tmp_path):
    latency = load(written(tmp_path, "a.csv", ",a,b,c,d\na,,5,0,9\nb,7,,8,\nc,,8,,4\nd,9,,4,\n"))
    assert latency.rtt_ms[0, 2] == 13  # a-b-c and a-d-c
    assert latency.rtt_ms[1, 3] == 12  # through c; through a it is 14
    assert latency.rtt_ms[3, 1] == 12  # d-c-b; d-a-b is 14
    reverse = load(written(tmp_path, "b.csv", ",a,b\na,,5\nb,,\n"))
    assert reverse.rtt_ms.tolist() == [[3, 5], [5, 3]]


def test_a_site_without_a_figure_of_its_own_is_no_farther_apart_than_its_neighbour(tmp_path):
    assert load(written(tmp_path, "a.csv", ",a,b\na,,0.4\nb,0.4,\n")).rtt_ms.tolist() == [[0.4, 0.4], [0.4, 0.4]]


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.csv", "", ["no sites"]),
        ("a.csv", ",a,b\na,1,x\nb,1,1\n", ["row 'a'", "column 'b'", "'x'"]),
        ("a.csv", ",a,b\na,1,-2\nb,1,1\n", ["row 'a'", "column 'b'", "'-2'"]),
        ("a.csv", ",a,b\na,1,inf\nb,1,1\n", ["row 'a'", "column 'b'", "'inf'"]),
        ("a.csv", ",a,b\na,1,2\nc,1,1\n", ["row 'c'", "header has 'b'"]),
        ("a.csv", ",a,a\na,1,2\na,1,1\n", ["'a'", "twice"]),
        ("a.csv", ",a,b\na,1,2\n", ["2 columns but 1 rows"]),
        ("a.csv", ",a,b\na,1,2\nb,1\n", ["row 'b' has 1 entries, not 2"]),
        ("a.csv", ",a,b\na,1,2,3\nb,1,1\n", ["row 'a' has 3 entries, not 2"]),
        ("a.csv", ",a,b,c\na,0,2,\nb,2,0,\nc,,,0\n", ["row 'a'", "column 'c'", "not measured"]),
        ("a.json", "{", ["line 1, column 2"]),
        ("a.json", "[1]", ["no JSON object"]),
        ("a.json", '{"a": 3}', ["row 'a'", "no object"]),
        ("a.json", '{"a": {"b": 3}}', ["row 'a'", "column 'b'", "no such site"]),
        ("a.json", '{"a": {"a": 1, "b": null}, "b": {"b": 1}}', ["row 'a'", "column 'b'", "None"]),
        ("a.json", '{"a": {"a": true}}', ["row 'a'", "column 'a'", "True"]),
        ("a.txt", "1 2\n2 1\n", [".csv or .json"]),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_the_place(tmp_path, name, text, parts):
    message = error_of(written(tmp_path, name, text))
    assert all(part in message for part in parts), message


def test_a_missing_or_binary_file_is_refused_in_one_line(tmp_path):
    assert "no such file" in error_of(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as text" in error_of(tmp_path / "b.csv")


def test_jitter_is_fitted_so_that_the_round_trip_has_the_90th_percentile_given(tmp_path):
    written(tmp_path, "x-p90.json", '{"b": {"a": 110, "b": 1}, "a": {"a": 1, "b": 108}}')
    latency = load(written(tmp_path, "x-p50.json", '{"a": {"a": 1, "b": 100}, "b": {"a": 100, "b": 1}}'))
    ways = np.random.default_rng(0).lognormal(0, latency.jitter[0, 1], (2, 200_000)) * 50
    assert np.percentile(ways.sum(axis=0), 90) == pytest.approx(108, rel=0.003)
    assert latency.jitter[0, 0] == 0
    assert jitter_from(np.array([[10.0]]), np.array([[9.0]])) == 0  # a p90 below the median is noise


def test_p90_of_other_sites_is_refused(tmp_path):
    written(tmp_path, "p90.json", '{"c": {"c": 1}}')
    with pytest.raises(InputError, match="sites are not those of"):
        load(written(tmp_path, "p50.json", '{"a": {"a": 1}}'))


def test_replicas_are_placed_evenly_and_next_to_each_other():
    latency = network("iot")
    assert np.bincount(assign(100, latency)).tolist() == [10] * 10
    assert np.bincount(assign(23, latency)).tolist() == [3, 2, 2, 3, 2, 2, 3, 2, 2, 2]
    assert (np.diff(assign(57, latency)) >= 0).all()
    assert assign(5, latency).tolist() == [0, 2, 4, 6, 8]
    delays = place(20, latency)
    assert delays[0, 1] == 0.010
    assert delays[0, 19] == 0.105
    assert not np.diag(delays).any()


def test_random_places_are_those_of_their_seed():
    latency = network("earth")
    assert assign(50, latency, "random", 3).tolist() == assign(50, latency, "random", 3).tolist()
    assert assign(50, latency, "random", 3).tolist() != assign(50, latency, "random", 4).tolist()


def test_sites_are_selected_by_name_or_its_last_word(tmp_path):
    path = written(tmp_path, "a.csv", ",US East us-east-1,Rome,c\nUS East us-east-1,1,2,3\nRome,4,5,6\nc,7,8,9\n")
    latency = load(path).select(["c", "us-east-1"])
    assert latency.names == ("c", "US East us-east-1")
    assert latency.rtt_ms.tolist() == [[9, 7], [3, 1]]
    with pytest.raises(InputError, match="'Paris'"):
        latency.select(["Paris"])


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_models_are_whole_and_cannot_be_changed(name):
    latency = network(name)
    assert (latency.rtt_ms > 0).all()
    assert (latency.jitter > 0).all()
    with pytest.raises(ValueError, match="read-only"):
        latency.rtt_ms[0, 0] = 1


def test_earth_follows_the_great_circle():
    latency = network("earth").select(["London", "NewYork"])
    assert latency.rtt_ms[0, 1] == pytest.approx(4 + 2 * 1.75 * 5570 / 204.218, rel=0.005)  # 5,570 km
    assert (latency.rtt_ms == latency.rtt_ms.T).all()


def median_error(modelled, rtt):
    pairs = ~np.eye(len(rtt), dtype=bool)
    return float(np.median(np.abs(modelled[pairs] - rtt[pairs]) / rtt[pairs]))


@measured
def test_the_stated_errors_of_earth_are_those_against_the_measured_matrices():
    cities = network("earth")
    pings = load(DATA / "relab-hotstuff" / "wonderproxy.csv")
    shared = [name for name in cities.names if name in pings.names]
    assert len(shared) == 59
    error = median_error(cities.select(shared).rtt_ms, pings.select(shared).rtt_ms)
    assert error == pytest.approx(earth.ERROR_WONDERPROXY, abs=0.0005)
    regions = load(DATA / "relab-hotstuff" / "aws.csv")
    assert len(regions.names) == len(AWS_CITIES)
    modelled = cities.select([AWS_CITIES[name.split()[-1]] for name in regions.names]).rtt_ms
    assert median_error(modelled, regions.rtt_ms) == pytest.approx(earth.ERROR_AWS, abs=0.0005)


@measured
def test_the_measured_matrices_load():
    regions = load(DATA / "commonware-estimator" / "p50.json")
    assert len(regions.names) == 33
    pairs = ~np.eye(33, dtype=bool)
    assert float(np.median(regions.jitter[pairs])) == pytest.approx(network("earth").jitter[0, 1], abs=0.001)
    homes = load(DATA / "netlatency-data" / "Seattle" / "SeattleData_1")
    assert homes.rtt_ms.shape == (99, 99)
    assert float(np.median(homes.rtt_ms)) == pytest.approx(210)  # seconds in the file
    assert math.isfinite(homes.rtt_ms.max())
    assert homes.rtt_ms.min() > 0
