"""What a council commits is what the strategy would have aggregated, whoever lies."""

import logging

import flwr.serverapp.strategy as flower_strategies
import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedMedian, FedTrimmedAvg, Krum, MultiKrum
from made_up import NODES, FewNodes, model, record, replies, reply, rounds, same_bits

from consensus.ledger import Genesis, read, verify
from fl.aggregation import InsideAndAcross, arrays_digest, median
from fl.council import outcome
from fl.strategy import ConsensusStrategy
from shards.errors import FedshardError, InputError

MINIMA = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
WORST = ["", "silent:3", "lying-head:2,silent:1", "false-aggregate:2,lying-head:1"]


def outcomes(council):
    return [outcome.decode(operation) for block in council.ledger.blocks for operation in block.operations]


@pytest.mark.parametrize("verify_by", ["region", "all"])
@pytest.mark.parametrize("kind", [FedAvg, FedAvgM, FedAdam])
def test_a_strategy_of_the_weighted_mean_does_what_it_does_without_a_council(council, kind, verify_by):
    options = {"server_momentum": 0.9} if kind is FedAvgM else {}
    plain, _ = rounds(kind(**MINIMA, **options))
    agreed, _ = rounds(ConsensusStrategy(kind(**MINIMA, **options), council(), verify_by))
    if verify_by == "all":
        assert same_bits(plain, agreed)
    for a, b in zip(plain, agreed, strict=True):
        assert list(a) == list(b)  # in the model's own order
        for name in a:
            # Adam divides by the size of what it steps by, so that the last bits of the mean are seen in it.
            assert b[name] == pytest.approx(a[name], rel=1e-4, abs=1e-2 if kind is FedAdam else 1e-6)
            assert b[name].dtype == a[name].dtype


@pytest.mark.parametrize("name", ["FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "FedYogi", "QFedAvg"])
def test_any_deterministic_strategy_can_be_verified_by_all(council, name):
    kind = getattr(flower_strategies, name)
    options = {"client_learning_rate": 0.1} if name == "QFedAvg" else {}
    plain, _ = rounds(kind(**MINIMA, **options))
    agreed, _ = rounds(ConsensusStrategy(kind(**MINIMA, **options), council(), "all"))
    assert same_bits(plain, agreed)


@pytest.mark.parametrize("verify_by", ["region", "all"])
def test_with_f_faulty_replicas_the_final_arrays_are_those_of_the_fault_free_run(council, verify_by):
    results = []
    for faults in WORST:
        made = council(10, faults)
        results.append(rounds(ConsensusStrategy(FedAvgM(server_momentum=0.9, **MINIMA), made, verify_by), 3)[0])
        assert verify(read(made.ledger.path.parent), Genesis.read(made.ledger.path.parent)).bad is None
        committed = [found.aggregate for found in outcomes(made)]
        assert committed[1:] == [arrays_digest(arrays) for arrays in results[-1]]
    assert all(same_bits(results[0], other) for other in results[1:])


@pytest.mark.parametrize("kind", [FedMedian, FedTrimmedAvg, Krum])
def test_a_robust_rule_works_inside_and_across_regions_whoever_is_faulty(council, kind):
    results = [
        rounds(ConsensusStrategy(kind(**MINIMA), council(20, faults)), 1)[0] for faults in ("", "lying-head:3")
    ]
    assert same_bits(*results)


def test_the_robust_value_is_that_of_the_committed_map(council):
    made = council(20)
    (result,), _ = rounds(ConsensusStrategy(FedMedian(**MINIMA), made), 1)
    by_client = {reply.metadata.src_node_id: reply.content.array_records["arrays"] for reply in replies()}
    regions = [
        np.stack([by_client[client]["weight"].numpy().ravel().astype(np.float64) for client in region])
        for region in outcomes(made)[0].assignment
    ]
    both = InsideAndAcross(median)
    expected = both.total([both.part(region, np.ones(len(region))) for region in regions])
    assert (result["weight"].ravel() == expected.astype(np.float32)).all()


def test_replicas_that_share_nothing_come_to_the_same_bits(council):
    for verify_by in ("region", "all"):
        shared, alone = council(), council()
        results = [
            rounds(ConsensusStrategy(FedAvgM(server_momentum=0.5, **MINIMA), made, verify_by, shared=made is shared))[
                0
            ]
            for made in (shared, alone)
        ]
        assert same_bits(*results)
        assert shared.ledger.path.read_bytes() == alone.ledger.path.read_bytes()


class Coin(FedAvg):
    """A strategy that nobody can recompute."""

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        return ArrayRecord([array.numpy() + np.random.normal() for array in arrays.values()]), metrics


class OsCoin(FedAvg):
    """One whose randomness no seed of a global generator reaches."""

    def aggregate_train(self, server_round, replies):
        arrays, _ = super().aggregate_train(server_round, replies)
        return arrays, MetricRecord({"coin": float(np.random.default_rng().random())})


@pytest.mark.parametrize("kind", [Coin, OsCoin])
def test_a_randomised_strategy_is_refused_with_one_line(council, kind):
    with pytest.raises(InputError) as caught:
        rounds(ConsensusStrategy(kind(**MINIMA), council(4), "all"))
    assert f"{kind.__name__} draws random numbers" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("inner", [MultiKrum(**MINIMA), Coin(**MINIMA)])
def test_what_regions_cannot_begin_is_refused_before_anything_happens(council, inner):
    with pytest.raises(InputError, match="council-verify = 'all'"):
        ConsensusStrategy(inner, council(4))


def test_liars_are_named_in_the_round_they_lie_in(council):
    strategy = ConsensusStrategy(FedAvg(**MINIMA), council(20, "false-aggregate:1,lying-head:2"))
    rounds(strategy, 1)
    (announced, nothing), (decision, notes) = strategy.decisions
    assert not nothing
    assert not announced.refused
    refused = {liar: (count, why) for liar, count, why in decision.refused}
    count, why = refused.pop(0)
    assert count == 17  # all correct replicas
    assert not set(refused) - {1}  # a lying head that comes to lead passes the lie on
    assert why.startswith("aggregate ")
    assert " is false: recomputed " in why
    heads = [note for note in notes if "stated a false sum" in note]
    assert len(heads) == 2


def test_a_captured_region_spoils_its_own_part_and_its_honest_members_dissent(council):
    made = council(20)
    region = next(index for index, members in enumerate(made.regions.members) if len(members) >= 4)
    members = made.regions.members[region]
    quorum = (len(members) + (len(members) - 1) // 3) // 2 + 1
    made.faulty = dict.fromkeys(members[:quorum], "lying-head")  # within F of the council, a quorum of the region
    made.correct = tuple(replica for replica in range(20) if replica not in made.faulty)
    strategy = ConsensusStrategy(FedMedian(**MINIMA), made)
    (spoilt,), _ = rounds(strategy, 1)
    (clean,), _ = rounds(ConsensusStrategy(FedMedian(**MINIMA), council(20)), 1)
    assert not same_bits([spoilt], [clean])
    assert np.abs(spoilt["weight"]).max() < 5  # one region of four cannot carry a median across them away
    assert sum("dissents" in note for note in strategy.decisions[-1][1]) == len(members) - quorum


@pytest.mark.parametrize("bad", ["nan", "shape", "weight", "missing"])
def test_an_update_that_has_no_place_in_a_sum_is_left_out(council, caplog, bad):
    def made(server_round):
        arrays, weight = model(5), 10.0
        if bad == "nan":
            arrays["bias"][0] = np.nan
        if bad == "shape":
            arrays["bias"] = arrays["bias"][:2]
        if bad == "weight":
            weight = -1.0
        if bad == "missing":
            del arrays["bias"]
        return [reply(NODES[0], arrays, weight), *replies(server_round, NODES[1:])]

    with caplog.at_level(logging.WARNING, "fedshard"):
        (with_bad,), _ = rounds(ConsensusStrategy(FedAvg(**MINIMA), council()), 1, make=made)
    assert "update is left out" in caplog.text
    without = rounds(ConsensusStrategy(FedAvg(**MINIMA), council()), 1, make=lambda r: replies(r, NODES[1:]))[0]
    assert same_bits([with_bad], without)


def test_without_a_usable_update_the_model_stays(council):
    made = council(4)
    for verify_by in ("region", "all"):
        strategy = ConsensusStrategy(FedAvg(**MINIMA), made, verify_by)
        strategy.configure_train(1, record(model()), ConfigRecord(), FewNodes(NODES))
        assert strategy.aggregate_train(1, []) == (None, None)


def test_a_node_that_joins_is_on_the_committed_map_before_its_first_round(council):
    made = council(20)
    strategy = ConsensusStrategy(FedAvg(**MINIMA), made)
    arrays = record(model())
    for server_round, nodes in ((1, NODES[:6]), (2, NODES)):
        strategy.configure_train(server_round, arrays, ConfigRecord(), FewNodes(nodes))
        arrays, _ = strategy.aggregate_train(server_round, replies(server_round, nodes))
    found = outcomes(made)
    assert [item.server_round for item in found] == [0, 1, 1, 2]
    assert sorted(client for region in found[2].assignment for client in region) == list(NODES)
    assert all(set(old) <= set(new) for old, new in zip(found[1].assignment, found[2].assignment, strict=True))
    assert found[2].aggregate == found[1].aggregate


def test_a_ledger_that_lost_blocks_is_not_gone_on_from(council, tmp_path):
    models, _ = rounds(ConsensusStrategy(FedAvg(**MINIMA), council(4, folder=tmp_path)), 3)
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(FedshardError, match="does not lead to the model after round 3"):
        ConsensusStrategy(FedAvg(**MINIMA), council(4, folder=tmp_path)).resume(3, record(models[2]))


def test_a_strategy_goes_on_from_the_ledger(council, tmp_path):
    def inner():
        return FedAvg(**MINIMA)

    whole, _ = rounds(ConsensusStrategy(inner(), council(10, "false-aggregate:1", folder=tmp_path / "a")), 4)
    rounds(ConsensusStrategy(inner(), council(10, "false-aggregate:1", folder=tmp_path / "b")), 3)
    again = ConsensusStrategy(inner(), council(10, "false-aggregate:1", folder=tmp_path / "b"))
    again.resume(2, record(whole[1]))  # the snapshot is of round 2; the ledger is ahead of it by a block
    arrays = record(whole[1])
    for server_round in (3, 4):
        again.configure_train(server_round, arrays, ConfigRecord(), FewNodes(NODES))
        arrays, _ = again.aggregate_train(server_round, replies(server_round))
    assert same_bits([{name: array.numpy() for name, array in arrays.items()}], whole[3:])
    assert (tmp_path / "a/ledger.jsonl").read_bytes() == (tmp_path / "b/ledger.jsonl").read_bytes()
