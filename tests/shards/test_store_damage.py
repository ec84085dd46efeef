"""Files of a store that were damaged, removed, or are not what they should be: one clear line each."""

import hashlib
import json
import os
import random

import pytest
from tables import same, table

from shards.errors import InputError
from shards.files import FolderFiles
from shards.layout import Layout
from shards.manifest import Manifest
from shards.payload import encode
from shards.request import Request
from shards.store import Store

EVERYTHING = Request.everything()
ROWS = table(range(30))


@pytest.fixture
def folder(tmp_path):
    Store.create(FolderFiles(tmp_path), ROWS, Layout.hashed(2))
    return tmp_path


def shard(folder):
    return min(folder.glob("*.safetensors"))


def manifest(folder):
    return next(folder.glob("manifest-*.json"))


def said(folder, call=lambda store: store.read(EVERYTHING)):
    """Return what a process says that opens the store for the first time."""
    files = FolderFiles(folder)
    files.verified.clear()
    with pytest.raises(InputError) as error:
        call(Store.open(files))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_flipped_bit_anywhere_in_a_shard_is_found_before_its_rows_are_used(folder):
    path = shard(folder)
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), 60):
        torn = bytearray(whole)
        torn[bit // 8] ^= 1 << bit % 8
        path.write_bytes(torn)
        expected = f"{path}: damaged, its content does not match its name; restore it from a copy"
        assert said(folder) == expected
        assert said(folder, lambda store: store.recut(Layout.single())) == expected
    path.write_bytes(whole)
    same(Store.open(FolderFiles(folder)).read(EVERYTHING).table, ROWS)


def test_a_bit_that_flips_after_the_first_read_is_found_by_verify(folder):
    store = Store.open(FolderFiles(folder))
    store.read(EVERYTHING)
    path = shard(folder)
    torn = bytearray(path.read_bytes())
    torn[-1] ^= 1
    path.write_bytes(torn)
    with pytest.raises(InputError, match="damaged, its content does not match its name"):
        store.verify()


def test_a_truncated_shard_is_found_on_every_read(folder):
    store = Store.open(FolderFiles(folder))
    store.read(EVERYTHING)
    path = shard(folder)
    size = path.stat().st_size
    for left in (size - 1, 100, 3, 0):
        os.truncate(path, left)
        with pytest.raises(InputError, match=f"{path}: damaged, {left} bytes and not {size}; restore it from a copy"):
            store.read(EVERYTHING)


def test_a_missing_shard_is_named(folder):
    path = shard(folder)
    path.unlink()
    line = f"{path}: missing, though manifest-0000000001.json names it; restore it from a copy"
    assert said(folder) == said(folder, lambda store: store.verify()) == line


def test_a_flipped_bit_anywhere_in_the_manifest_is_found(folder):
    path = manifest(folder)
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(8 * len(whole)), 60):
        torn = bytearray(whole)
        torn[bit // 8] ^= 1 << bit % 8
        path.write_bytes(torn)
        assert said(folder) == f"{path}: damaged, its content does not match its checksum; restore it from a copy"
    for left in (0, 10, len(whole) - 1):
        path.write_bytes(whole[:left])
        assert "damaged" in said(folder)
    path.write_bytes(whole)
    same(Store.open(FolderFiles(folder)).read(EVERYTHING).table, ROWS)


def test_a_manifest_is_json_that_anyone_can_read_and_check(folder):
    text = manifest(folder).read_text()
    body = text[text.index('"manifest": ') + len('"manifest": ') : -2]
    assert json.loads(text)["sha256"] == hashlib.sha256(body.encode()).hexdigest()
    assert json.loads(text)["manifest"]["schema"]["keys"]["region"] == "str"


def test_a_store_of_a_newer_version_is_not_misread(folder):
    path = manifest(folder)
    body = path.read_bytes().split(b'"manifest": ', 1)[1][:-2].replace(b'"version":1', b'"version":2')
    path.write_bytes(b'{"sha256": "%s",\n"manifest": %s}\n' % (hashlib.sha256(body).hexdigest().encode(), body))
    assert said(folder) == (
        f"{path}: written by a newer fedshard (format 2, this one reads up to 1); upgrade fedshard"
    )


def test_rows_that_a_manifest_tells_wrongly_are_found_by_verify(folder):
    path = manifest(folder)
    told = Manifest.decode(path.read_bytes(), "")
    first, second = told.shards
    twice = [first, second, type(first)(first.digest, first.size, None, first.zone)]
    path.write_bytes(Manifest(1, told.schema, told.layout, tuple(twice)).encode())
    assert "is in two shards" in said(folder, lambda store: store.verify())
    other = b"".join(encode(table(range(40, 50))))
    digest = hashlib.sha256(other).hexdigest()
    (folder / f"{digest}.safetensors").write_bytes(other)
    wrong = [type(first)(digest, len(other), first.box, first.zone), second]
    path.write_bytes(Manifest(1, told.schema, told.layout, tuple(wrong)).encode())
    assert "its rows are not those in manifest-0000000001.json" in said(folder, lambda store: store.verify())


def test_a_place_without_a_store_is_named(tmp_path):
    (tmp_path / "file").touch()
    assert said(tmp_path) == f"{tmp_path}: no shard store here; name the folder of one, or create it"
    assert "no shard store here" in said(tmp_path / "nowhere")
    with pytest.raises(InputError, match="file: not a folder; name a folder for the shard store"):
        Store.create(FolderFiles(tmp_path / "file"), ROWS)


def test_a_folder_without_permission_is_named(folder, monkeypatch):
    store = Store.open(FolderFiles(folder))
    real = os.open

    def refused(path, flags, *rest):
        if flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(InputError, match="no permission to write here; change its mode or owner"):
        store.append(table([99]))
    same(store.read(EVERYTHING).table, ROWS)  # reading needs no permission to write

    def unreadable(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", unreadable)
    with pytest.raises(InputError, match="no permission to read this folder; change its mode or owner"):
        store.read(EVERYTHING)
