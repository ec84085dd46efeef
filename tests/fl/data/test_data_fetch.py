"""Downloads, from a server of the test's own."""

import hashlib
import io
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fl.data import fetch as fetch_module
from fl.data.fetch import ORIGINALS, SUMS, DownloadError, fetch
from shards.disk import DiskFullError
from shards.errors import InputError

FILES = {"PRSA_Data_Dongsi.csv": b"a,b\n1,2\n", "PRSA_Data_Shunyi.csv": b"a,b\n3,4\n"}


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A publisher of `air-quality`: an archive in an archive, with what must not be unpacked; returns its folder."""
    inner = zipped({f"deep/folder/{name}": content for name, content in FILES.items()})
    outer = zipped({"data.zip": inner, "../../PRSA_Data_x/readme.txt": b"no", "__MACOSX/PRSA_Data_.csv": b"no"})
    published = tmp_path / "published"
    published.mkdir()
    (published / "original.zip").write_bytes(outer)
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(published)))
    threading.Thread(target=partial(running.serve_forever, poll_interval=0.01), daemon=True).start()
    url = f"http://127.0.0.1:{running.server_port}/original.zip"
    original = replace(ORIGINALS["air-quality"], url=url, sha256=hashlib.sha256(outer).hexdigest())
    monkeypatch.setitem(ORIGINALS, "air-quality", original)
    yield published
    running.shutdown()
    running.server_close()


def error_of(kind, folder, name="air-quality"):
    with pytest.raises(kind) as caught:
        fetch(name, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_files_wanted_are_unpacked_and_their_sums_written(server, tmp_path):
    folder = tmp_path / "new" / "data"
    assert fetch("air-quality", folder) == [folder / name for name in sorted(FILES)]
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != SUMS} == FILES
    digests = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(FILES.items())]
    assert (folder / SUMS).read_text() == "".join(digests)


def test_a_second_call_checks_what_is_there_and_needs_no_network(server, tmp_path):
    first = fetch("air-quality", tmp_path / "data")
    (server / "original.zip").unlink()
    assert fetch("air-quality", tmp_path / "data") == first
    first[0].write_bytes(b"changed")
    assert error_of(InputError, tmp_path / "data") == (
        f"{first[0]}: changed or gone since it was fetched; remove {tmp_path / 'data' / SUMS} to fetch it again"
    )


def test_another_checksum_keeps_nothing(server, tmp_path):
    content = (server / "original.zip").read_bytes()
    (server / "original.zip").write_bytes(content + b"!")
    line = error_of(DownloadError, tmp_path / "data")
    assert f"its SHA-256 is {hashlib.sha256(content + b'!').hexdigest()}, expected" in line
    assert "nothing was kept" in line
    assert not (tmp_path / "data").exists()


def test_without_a_network_the_line_says_what_to_place_where(server, tmp_path, monkeypatch):
    original = ORIGINALS["air-quality"]
    monkeypatch.setitem(ORIGINALS, "air-quality", replace(original, url="http://127.0.0.1:9/original.zip"))
    assert error_of(DownloadError, tmp_path / "data") == (
        "http://127.0.0.1:9/original.zip: cannot be downloaded ([Errno 111] Connection refused); by hand: get "
        f"http://127.0.0.1:9/original.zip (see {original.page}) and unpack PRSA_Data_*.csv into {tmp_path / 'data'}"
    )
    monkeypatch.setitem(ORIGINALS, "air-quality", replace(original, url=original.url.replace("original", "gone")))
    assert "cannot be downloaded (File not found)" in error_of(DownloadError, tmp_path / "data")


def test_a_server_that_falls_silent_is_given_up(server, tmp_path, monkeypatch):
    def hang(self):
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"some")
        self.wfile.flush()
        threading.Event().wait(1.0)

    monkeypatch.setattr(Quiet, "do_GET", hang)
    monkeypatch.setattr(fetch_module, "TIMEOUT_S", 0.2)
    assert "cannot be downloaded (timed out)" in error_of(DownloadError, tmp_path / "data")


def test_a_full_disk_leaves_no_sums_so_that_the_next_call_starts_again(server, tmp_path, monkeypatch):
    real = fetch_module.write_atomically

    def full(path, content):
        if path.name == "PRSA_Data_Shunyi.csv":
            raise DiskFullError(f"{path}: disk full")
        real(path, content)

    monkeypatch.setattr(fetch_module, "write_atomically", full)
    error_of(DiskFullError, tmp_path / "data")
    assert not (tmp_path / "data" / SUMS).exists()


def test_an_unknown_name_and_a_folder_that_is_a_file(server, tmp_path):
    assert error_of(InputError, tmp_path, "hospital") == (
        "data fetch hospital: there is no original of that name; did you mean 'hospitals'?"
    )
    (tmp_path / "file").write_text("")
    assert "cannot be made (" in error_of(InputError, tmp_path / "file" / "data")


def test_every_scenario_with_data_of_others_has_an_original():
    assert set(ORIGINALS) == {"hospitals", "activity", "air-quality"}
    for original in ORIGINALS.values():
        assert original.url.startswith("https://archive.ics.uci.edu/static/public/")
        assert len(original.sha256) == 64
