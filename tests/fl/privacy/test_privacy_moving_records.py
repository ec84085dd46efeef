"""Records that move between shards: only a ledger that follows the record is right.

20,000 records in 20 shards; each of 50 rounds trains 4 shards, then half of the records are re-drawn to
random shards. The plan comes from a keyed stream, so it is the same on every platform.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from opacus.accountants import RDPAccountant

from fl.privacy import Mechanism, RecordLedger, epsilon, rdp, simulated_secret, stream

RECORDS, SHARDS, ROUNDS, TRAINED = 20_000, 20, 50, 4
EVENT = Mechanism(sampling_rate=0.05, noise_multiplier=1.0, steps=20)
DELTA = 1e-5
IDS = np.arange(RECORDS, dtype=np.int64)


@dataclass(frozen=True)
class Plan:
    assignments: list  # per round, the shard of every record
    trained: list  # per round, the shards that train


def draw_plan(moving):
    coins = stream(simulated_secret(13, 0), "moving records")
    shard = (coins.uniform(RECORDS) * SHARDS).astype(int)
    assignments, trained = [], []
    for _ in range(ROUNDS):
        assignments.append(shard)
        trained.append(np.argsort(coins.uniform(SHARDS))[:TRAINED])
        redrawn, target = coins.uniform(RECORDS) < 0.5, (coins.uniform(RECORDS) * SHARDS).astype(int)
        shard = np.where(redrawn, target, shard) if moving else shard
    return Plan(assignments, trained)


def charge_all(plan, path, names):
    ledger = RecordLedger(path)
    for number, (shard, trained) in enumerate(zip(plan.assignments, plan.trained, strict=True)):
        for part in trained:
            event = f"round-{number}/shard-{names[part]}"
            ledger.charge("hospital", event, b"model", event.encode(), EVENT, IDS[shard == part])
    return ledger


@pytest.fixture(scope="module")
def plan():
    return draw_plan(moving=True)


@pytest.fixture(scope="module")
def ledger(plan, tmp_path_factory):
    return charge_all(plan, tmp_path_factory.mktemp("ledger") / "ledger.db", range(SHARDS))


def test_the_plan_is_the_published_one(plan):
    per_record = sum(np.isin(shard, part) for shard, part in zip(plan.assignments, plan.trained, strict=True))
    per_shard = np.bincount(np.concatenate(plan.trained), minlength=SHARDS)
    assert (per_record.max(), per_shard.max(), per_shard.mean()) == (22, 14, 10)
    assert (per_record > 14).mean() == pytest.approx(0.0624)


def test_record_ledger_exceeds_every_coarser_figure(plan, ledger):
    spent = ledger.epsilons("hospital", IDS, DELTA)
    per_shard = np.bincount(np.concatenate(plan.trained), minlength=SHARDS)
    one_round = epsilon(rdp(EVENT), DELTA)
    worst_shard = epsilon(per_shard.max() * rdp(EVENT), DELTA)
    everyone_always = epsilon(ROUNDS * rdp(EVENT), DELTA)
    assert one_round < worst_shard < spent.max() < everyone_always
    assert (one_round, worst_shard, spent.max(), everyone_always) == pytest.approx(
        (2.481, 6.253, 7.780, 11.980), abs=1e-3
    )
    assert (spent > worst_shard).mean() == pytest.approx(0.0624)
    assert ledger.max_epsilon(DELTA) == spent.max()


def test_names_of_shards_do_not_matter(plan, ledger, tmp_path):
    names = np.argsort(stream(simulated_secret(1, 0), "names").uniform(SHARDS))
    renamed = charge_all(plan, tmp_path / "renamed.db", names)
    assert np.array_equal(renamed.rdp("hospital", IDS), ledger.rdp("hospital", IDS))


def test_without_movement_the_ledger_is_opacus(tmp_path):
    still = draw_plan(moving=False)
    ledger = charge_all(still, tmp_path / "still.db", range(SHARDS))
    spent = ledger.epsilons("hospital", IDS, DELTA)
    events = np.bincount(np.concatenate(still.trained), minlength=SHARDS)
    for part in range(SHARDS):
        accountant = RDPAccountant()
        accountant.history = [(EVENT.noise_multiplier, EVENT.sampling_rate, EVENT.steps * int(events[part]))]
        figures = spent[still.assignments[0] == part]
        np.testing.assert_allclose(figures, accountant.get_epsilon(DELTA), rtol=0, atol=1e-9)


def test_a_filter_holds_every_record_to_its_budget(plan, tmp_path):
    budget, ledger = 6.0, RecordLedger(tmp_path / "filtered.db")
    for number, (shard, trained) in enumerate(zip(plan.assignments, plan.trained, strict=True)):
        for part in trained:
            members = IDS[shard == part]
            eligible = members[ledger.affordable("hospital", members, EVENT, budget, DELTA)]
            event = f"{number}/{part}"
            ledger.charge("hospital", event, b"model", event.encode(), EVENT, eligible)
    spent = ledger.epsilons("hospital", IDS, DELTA)
    # 12 events cost 5.82, 13 would cost 6.04: whoever wanted more than 12 stops at 12.
    assert spent.max() == pytest.approx(epsilon(12 * rdp(EVENT), DELTA), abs=1e-12)
    assert not ledger.affordable("hospital", IDS[spent == spent.max()], EVENT, budget, DELTA).any()
