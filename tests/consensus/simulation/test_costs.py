import pytest

from consensus.simulation.costs import IOT, SERVER, costs
from shards.errors import InputError


def test_bls_bundles_cost_what_was_measured_at_67_and_667_signers():
    bls = SERVER.signatures("bls", 200)
    assert bls.verify_all(67) == pytest.approx(1.29e-3, rel=0.01)
    assert bls.verify_all(667) == pytest.approx(1.85e-3, rel=0.01)
    assert bls.combine(67) == pytest.approx(2.22e-3, rel=0.03)


def test_bls_breaks_even_near_thirteen_signers():
    ed25519, bls = (SERVER.signatures(name, 100) for name in ("ed25519", "bls"))
    assert ed25519.verify_all(11) < bls.verify_all(11)
    assert ed25519.verify_all(13) > bls.verify_all(13)


def test_a_bls_bundle_stays_as_long_as_one_signature():
    ed25519, bls = (SERVER.signatures(name, 100) for name in ("ed25519", "bls"))
    assert bls.bundle_length(67) == 96
    assert ed25519.bundle_length(67) == 67 * 64


def test_a_mac_is_made_for_every_receiver_and_checked_by_one():
    mac = SERVER.signatures("mac", 100)
    assert mac.sign_s == pytest.approx(99 * 1.65e-6)
    assert mac.verify_s == pytest.approx(1.65e-6)


def test_the_iot_profile_takes_twenty_times_as_long_for_everything():
    for name, seconds in vars(SERVER).items():
        if name != "profile":
            assert vars(IOT)[name] == pytest.approx(20 * seconds)
    assert IOT.signatures("bls", 9).length == SERVER.signatures("bls", 9).length


def test_a_message_costs_a_fixed_part_and_its_bytes():
    assert SERVER.transfer(0) == pytest.approx(1 / 145_000)
    assert SERVER.transfer(10**6) - SERVER.transfer(0) == pytest.approx(SERVER.cipher_mb)


@pytest.mark.parametrize("call", [lambda: costs("gpu"), lambda: SERVER.signatures("rsa", 4)])
def test_an_unknown_name_is_refused_in_one_line(call):
    with pytest.raises(InputError, match=r"not known; use"):
        call()
