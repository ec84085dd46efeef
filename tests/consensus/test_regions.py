import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.regions import AUTO, Regions, group, medoids, sites
from consensus.simulation.latency import network, place
from shards.errors import InputError


def micros(delays):
    return np.rint((delays + delays.T) * 1e6).astype(np.int64)


def scattered(n, seed=0):
    points = np.random.default_rng(seed).integers(0, 100_000, (n, 2))
    return np.abs(points[:, None] - points).sum(axis=2) + 1000 * ~np.eye(n, dtype=bool)


EARTH = micros(place(100, network("earth")))
IOT = micros(place(100, network("iot")))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10**6), st.data())
def test_everybody_is_in_one_region_of_a_bounded_size(n, seed, data):
    k = data.draw(st.integers(1, n))
    regions = group(scattered(n, seed), k)
    assert sorted(itertools.chain(*regions.members)) == list(range(n))
    assert regions.k == k
    assert max(regions.sizes) <= -(-3 * n // (2 * k))
    assert min(regions.sizes) >= max(1, n // (2 * k))
    assert [min(region) for region in regions.members] == sorted(min(region) for region in regions.members)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10**6), st.data())
def test_no_single_swap_improves_the_medoids_and_few_sets_beat_them(n, seed, data):
    rtt = scattered(n, seed)
    k = data.draw(st.integers(1, n))
    chosen = medoids(rtt, k)

    def cost(heads):
        return int(rtt[list(heads)].min(axis=0).sum())

    assert len(set(chosen)) == k
    neighbours = [{*chosen} - {out} | {new} for out in chosen for new in range(n) if new not in chosen]
    assert all(cost(chosen) <= cost(other) for other in neighbours)
    best = min(map(cost, itertools.combinations(range(n), k)))
    assert cost(chosen) <= 5 * best  # what a local optimum of single swaps is proved to reach (Arya et al. 2004)


def test_clusters_are_found_whole():
    regions = group(IOT, 10)
    assert regions.members == tuple(tuple(range(10 * site, 10 * site + 10)) for site in range(10))
    assert group(IOT, "sites").sizes == (10,) * 10


def test_sites_are_what_is_near_or_lies_below_a_gap():
    assert len(group(EARTH, "sites").members) == 61  # city by city, though they are spread without any gap
    assert group(micros(place(20, network("lan"))), "sites").k == 1
    far_apart = scattered(20) * 100
    np.fill_diagonal(far_apart, 0)
    assert sorted(map(len, sites(far_apart))) in ([20], [1, 19])
    chain = np.abs(np.subtract.outer(np.arange(12), np.arange(12))) * 5_000  # single linkage: each has one near
    assert sites(chain) == [list(range(12))]


def test_auto_is_flat_below_ten_and_four_regions_above():
    assert group(scattered(9)).k == 1
    assert group(scattered(10)).k == AUTO == 4
    assert group(EARTH).k == AUTO


def test_the_head_is_nearest_to_its_region_and_rotates_through_all():
    regions = group(EARTH, 7)
    for index, region in enumerate(regions.members):
        inside = EARTH[np.ix_(region, region)].sum(axis=1).tolist()
        assert inside == sorted(inside)
        assert regions.head(index) == region[0]
        assert [regions.head(index, rotation) for rotation in range(len(region) + 1)] == [*region, region[0]]


def test_the_order_of_replicas_does_not_change_who_is_together():
    order = np.random.default_rng(5).permutation(100)
    plain = {frozenset(region) for region in group(IOT, 10).members}
    shuffled = {frozenset(order[list(region)].tolist()) for region in group(IOT[np.ix_(order, order)], 10).members}
    assert plain == shuffled


def test_a_map_survives_json_and_has_one_form():
    regions = group(EARTH, 5)
    assert Regions.from_json(regions.to_json()) == regions
    assert Regions(((2, 0), (1,))).to_json() == b'{"regions":[[2,0],[1]]}'


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"regions": [[0, 0]]}', '{"regions": [[0], [0]]}', '{"regions": [[]]}', '{"regions": []}',
     '{"regions": [[-1]]}', '{"regions": [["a"]]}', '{"regions": [[0]], "k": 1}'],
)  # fmt: skip
def test_what_is_no_map_is_refused_in_one_line(text):
    with pytest.raises(InputError, match=r"^regions: [^\n]+$"):
        Regions.from_json(text)


@pytest.mark.parametrize("k", [0, 11, -1])
def test_a_number_of_regions_that_cannot_be_is_refused(k):
    with pytest.raises(InputError, match="a number from 1 to 10"):
        group(scattered(10), k)


def test_a_map_is_fitted_to_an_epochs_members():
    regions = Regions(((0, 1), (2, 3, 4), (5,)))
    assert regions.covering((0, 1, 2, 3, 4, 5)) == regions
    assert regions.covering((0, 3, 4, 7, 9)).members == ((0, 7, 9), (3, 4))
    assert regions.covering((8,)).members == ((8,),)


def test_a_thousand_replicas_are_grouped_within_two_seconds():
    rtt = micros(place(1000, network("earth"), "random", 1))
    for regions in ("auto", 40, "sites"):
        start = time.process_time()
        group(rtt, regions)
        assert time.process_time() - start < 2
