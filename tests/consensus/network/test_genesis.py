import json
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from echo import founded

from consensus.network.genesis import (
    SIGNING_KEY,
    TRANSPORT_KEY,
    private_pem,
    public_bytes,
    read_genesis,
    read_key,
    write_private,
)
from consensus.network.identities import new_member
from shards.errors import InputError


@pytest.fixture(scope="module")
def genesis(tmp_path_factory):
    return founded(tmp_path_factory.mktemp("genesis"), 4, regions=((0, 1), (2, 3)), timing={"view": 3.0})


def edited(genesis, tmp_path, edit):
    """Write a genesis whose JSON was changed, and return where."""
    path = tmp_path / "genesis.json"
    genesis.write(path)
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_a_genesis_is_read_as_it_was_written_and_names_the_chain(genesis, tmp_path):
    path = tmp_path / "genesis.json"
    genesis.write(path)
    again = read_genesis(path)
    assert again == genesis
    assert again.chain == genesis.chain
    assert len(again.chain) == 32


def test_layout_and_order_of_the_json_do_not_change_the_chain(genesis, tmp_path):
    path = edited(genesis, tmp_path, lambda content: content)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert read_genesis(path).chain == genesis.chain


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content["members"][1].update(port=15),
        lambda content: content["members"][1].update(name="other"),
        lambda content: content["members"].reverse(),
        lambda content: content["timing"].update(view=4.0),
        lambda content: content.update(protocol="regional"),
    ],
)
def test_any_change_makes_another_chain(genesis, tmp_path, edit):
    assert read_genesis(edited(genesis, tmp_path, edit)).chain != genesis.chain


def test_a_replica_is_told_what_the_genesis_says(genesis):
    config = genesis.config(2)
    assert config.own == 2
    assert config.chain == genesis.chain
    assert config.members == tuple(member.public for member in genesis.members)
    assert config.timing.view == 3.0
    assert config.regions((0, 1, 2, 3)) == ((0, 1), (2, 3))
    assert config.regions((1, 2, 3, 4)) == ((1,), (2, 3), (4,))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c["members"][2].update(port=70000), r"\$\.members\[2\]\.port"),
        (lambda c: c["members"][2].update(key="ab"), r"\$\.members\[2\]\.key"),
        (lambda c: c["members"][1].pop("host"), r"missing required field `host`.*\$\.members\[1\]"),
        (lambda c: c["members"][3].update(certificate="&&&"), r"members\[3\]\.certificate is not"),
        (lambda c: c["members"][3].update(key=c["members"][1]["key"]), r"members\[3\] has the key of members\[1\]"),
        (
            lambda c: c["members"][3].update(name=c["members"][0]["name"]),
            r"members\[3\] has the name of members\[0\]",
        ),
        (lambda c: c.update(protocol="regionl"), "protocol: no protocol 'regionl'.*regional"),
        (lambda c: c.update(colour="red"), "unknown field `colour`"),
        (lambda c: c.update(members=[]), r"\$\.members"),
        (lambda c: c.update(regions=[[0, 1], [1, 2, 3]]), "regions must name each place from 0 to 3 once"),
        (lambda c: c["timing"].update(veiw=1.0), "timing: there is no 'veiw'"),
        (lambda c: c["timing"].update(view=-1.0), "timing: every time must be above 0"),
        (lambda c: c["timing"].update(view="long"), r"\$\.timing"),
        (lambda c: c.update(admin="me"), r"\$\.admin"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(genesis, tmp_path, edit, said):
    with pytest.raises(InputError, match=said) as caught:
        read_genesis(edited(genesis, tmp_path, edit))
    assert "genesis.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_genesis_and_one_that_is_no_json_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"genesis\.json: the genesis cannot be read \(No such file"):
        read_genesis(tmp_path / "genesis.json")
    (tmp_path / "genesis.json").write_text("hello")
    with pytest.raises(InputError, match=r"genesis\.json: JSON is malformed"):
        read_genesis(tmp_path / "genesis.json")


def test_private_keys_are_for_their_owner_alone_and_never_replaced(tmp_path):
    member = new_member(tmp_path, "r", "127.0.0.1", 1)
    for name in (SIGNING_KEY, TRANSPORT_KEY):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert public_bytes(read_key(tmp_path / SIGNING_KEY)) == member.public
    with pytest.raises(InputError, match="a key is there already"):
        new_member(tmp_path, "r", "127.0.0.1", 1)
    assert public_bytes(read_key(tmp_path / SIGNING_KEY)) == member.public


def test_a_key_that_others_may_read_or_that_is_none_is_refused(tmp_path):
    path = tmp_path / "key.pem"
    with pytest.raises(InputError, match="cannot be read"):
        read_key(path)
    write_private(path, b"no key")
    with pytest.raises(InputError, match="not a private key in PEM form"):
        read_key(path)
    path.unlink()
    other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_private(path, other)
    with pytest.raises(InputError, match="an Ed25519 key is needed"):
        read_key(path)
    new_member(tmp_path, "r", "127.0.0.1", 1)
    (tmp_path / SIGNING_KEY).chmod(0o644)
    with pytest.raises(InputError, match=r"others may read this private key \(mode 644\); run chmod 600"):
        read_key(tmp_path / SIGNING_KEY)


def test_a_private_key_survives_its_file(tmp_path):
    new_member(tmp_path, "r", "127.0.0.1", 1)
    key = read_key(tmp_path / SIGNING_KEY)
    assert (tmp_path / SIGNING_KEY).read_bytes() == private_pem(key)
