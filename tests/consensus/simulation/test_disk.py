from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.machine import Forget, Persist
from consensus.simulation.disk import DISK_FAULTS, Disk

operations = st.lists(
    st.one_of(
        st.builds(Persist, st.integers(0, 9), st.binary(max_size=9)),
        st.builds(Forget, st.integers(0, 9)),
    ),
    max_size=12,
)


def meant(written):
    """What a log holds after some writes: the model."""
    kept = []
    for operation in written:
        if isinstance(operation, Persist):
            kept.append(operation)
        else:
            kept = [record for record in kept if record.seq > operation.seq]
    return [record.record for record in kept]


@given(synced=operations, unsynced=operations, fault=st.sampled_from(DISK_FAULTS), seed=st.integers(0, 99))
def test_after_a_crash_the_log_holds_what_was_synced_and_a_prefix_of_the_rest(synced, unsynced, fault, seed):
    disk = Disk()
    for operation in synced:
        disk.write(operation)
    disk.sync()
    for operation in unsynced:
        disk.write(operation)
    survived = disk.crash(fault, Random(seed))
    assert disk.records() == meant(synced + unsynced[:survived])
    if fault == "lost":
        assert survived == 0
    if fault == "kept":
        assert survived == len(unsynced)
    if fault == "torn" and unsynced:
        assert survived < len(unsynced)


def test_a_flipped_bit_drops_its_record_and_those_after_it():
    survivors = set()
    for seed in range(50):
        disk = Disk()
        for seq in range(4):
            disk.write(Persist(seq, b"record"))
        survivors.add(disk.crash("flipped", Random(seed)))
    assert survivors == {0, 1, 2, 3}


def test_rot_takes_durable_records():
    disk = Disk()
    for seq in range(4):
        disk.write(Persist(seq, b"record"))
    disk.sync()
    disk.rot(Random(1))
    assert len(disk.records()) < 4


@pytest.mark.parametrize(("size", "fits"), [(83, True), (84, False)])
def test_a_full_disk_says_so(size, fits):
    disk = Disk(capacity=100)
    assert disk.write(Persist(1, bytes(size))) == fits


def test_forgetting_makes_room():
    disk = Disk(capacity=100)
    assert disk.write(Persist(1, bytes(60)))
    disk.write(Forget(1))
    disk.sync()
    assert disk.write(Persist(2, bytes(60)))
