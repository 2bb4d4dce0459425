"""Files of the problems: every place they can come from, and every way in which one can fail."""

import gzip
import hashlib
import logging
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pooch
import pytest
from problem_files import (
    IMAGES,
    LABELS,
    ROOT,
    assert_one_error,
    assert_z_scores,
    embedded,
    idx,
    slump_table,
    with_file,
)

from collective_variables.data import _download, _errors, _transfer, problems

NOWHERE = "https://127.0.0.1:9"
# A file in the format of Concrete: a row number, 7 inputs, 3 targets.
SLUMP = "No" + ",x" * 10
for row in range(12):
    SLUMP += "\n" + ",".join(str(row + 0.5 * column**2) for column in range(11))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; Concrete is the small file SLUMP, of which no URL has a copy."""
    monkeypatch.delenv(_download.ENVIRONMENT, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(_transfer, "BACK_OFF", 0.01)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "caches" / project)
    digest = hashlib.sha256(SLUMP.encode()).hexdigest()
    urls = (f"{NOWHERE}/a", f"{NOWHERE}/b")
    small = replace(problems.PROBLEMS["concrete"], n_rows=12, n_test=2)
    monkeypatch.setitem(problems.PROBLEMS, "concrete", with_file(small, sha256=digest, urls=urls))
    return tmp_path / "caches" / "collective-variables"


@pytest.fixture
def mirror(tmp_path):
    """A folder that holds SLUMP under the name of Concrete's file."""
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "slump_test.data").write_text(SLUMP, encoding="utf-8", newline="")
    return tmp_path / "mirror"


@pytest.fixture
def packed(cache, mirror, monkeypatch):
    """The content of both files of MNIST, of 200 images; `mirror` holds them packed, no URL
    does.
    """
    problem = replace(problems.PROBLEMS["mnist-60000"], n_rows=200, n_test=50)
    contents = {}
    for file, array in zip((IMAGES, LABELS), embedded()):
        content = contents[file.plain] = idx(file, array[:200])
        digest, urls = hashlib.sha256(content).hexdigest(), (f"{NOWHERE}/a", f"{NOWHERE}/b")
        problem = with_file(problem, file, sha256=digest, n_bytes=len(content), urls=urls)
        (mirror / file.name).write_bytes(gzip.compress(content))
    monkeypatch.setitem(problems.PROBLEMS, "mnist-60000", problem)
    return contents


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *arguments):
        pass


class BreaksOff(Quiet):
    """Promises the whole file and sends half: HTTP/1.0 then closes the connection, HTTP/1.1 leaves
    it open.
    """

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(SLUMP)))
        self.end_headers()
        self.wfile.write(SLUMP[: len(SLUMP) // 2].encode())


class Unpacks(Quiet):
    """Declares the packing to be the transport's, so that requests unpacks."""

    def end_headers(self):
        self.send_header("Content-Encoding", "gzip")
        super().end_headers()


class GoesOn(Quiet):
    """Sends zeros, 64 MiB unless the client hangs up."""

    finished = False

    def do_GET(self):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for _ in range(1024):
                self.wfile.write(bytes(2**16))
            type(self).finished = True
        except ConnectionError:
            pass


@contextmanager
def serve(folder, handler=Quiet):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("spelling", ["absolute", "relative", "home"])
def test_environment_variable_names_a_folder_read_in_place(spelling, cache, mirror, monkeypatch):
    monkeypatch.chdir(mirror.parent)
    monkeypatch.setenv("HOME", str(mirror.parent))
    monkeypatch.setenv("USERPROFILE", str(mirror.parent))
    folder = {"absolute": str(mirror), "relative": "mirror", "home": "~/mirror"}[spelling]
    monkeypatch.setenv(_download.ENVIRONMENT, folder)
    d = problems.load_problem("concrete")
    assert_z_scores(d, slump_table(mirror / "slump_test.data"), d.index)
    assert not cache.exists()


@pytest.mark.parametrize(
    "unpacked",
    [(), (IMAGES,), (LABELS,), (IMAGES, LABELS)],
    ids=["none", "images", "labels", "both"],
)
def test_folder_holds_files_packed_or_unpacked(unpacked, packed, cache, mirror, monkeypatch):
    for file in unpacked:
        (mirror / file.name).unlink()
        (mirror / file.plain).write_bytes(packed[file.plain])
    before = sorted(mirror.iterdir())
    monkeypatch.setenv(_download.ENVIRONMENT, str(mirror))
    d = problems.load_problem("mnist-60000", seed=1)
    images, labels, _ = embedded()
    np.testing.assert_array_equal(d.inputs[..., 0], images[d.index] / np.float32(255))
    np.testing.assert_array_equal(d.targets.argmax(axis=1), labels[d.index])
    assert sorted([*d.index, *d.test_index]) == list(range(200))
    assert sorted(mirror.iterdir()) == before and not cache.exists()


@pytest.mark.parametrize("handler", [Quiet, Unpacks], ids=["packed", "unpacked in transport"])
def test_packed_files_are_kept_unpacked_in_the_cache(handler, packed, cache, mirror, monkeypatch):
    with serve(mirror, handler) as url:
        monkeypatch.setenv(_download.ENVIRONMENT, url)
        first = problems.load_problem("mnist-60000")
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == packed
    again = problems.load_problem("mnist-60000")
    np.testing.assert_array_equal(
        first.inputs, again.inputs, "the cached files serve without a network"
    )


def test_packed_file_put_into_the_cache_serves(packed, cache, mirror):
    cache.mkdir(parents=True)
    for file in (IMAGES, LABELS):
        (mirror / file.name).rename(cache / file.plain)
    assert problems.load_problem("mnist-60000").inputs.shape == (150, 28, 28, 1)


@pytest.mark.parametrize("slash", ["", "/"])
def test_environment_variable_names_a_base_url(slash, cache, mirror, monkeypatch):
    with serve(mirror) as url:
        monkeypatch.setenv(_download.ENVIRONMENT, url + slash)
        assert problems.load_problem("concrete").inputs.shape == (10, 7)
    assert [path.name for path in cache.iterdir()] == ["slump_test.data"]
    assert problems.load_problem("concrete").inputs.shape == (10, 7), (
        "the cached file serves without a network"
    )


def test_urls_are_tried_in_turn_and_quietly(cache, mirror, monkeypatch):
    records, handler = [], logging.Handler()
    handler.emit = records.append
    monkeypatch.setattr(pooch.get_logger(), "handlers", [handler])
    with serve(mirror) as url:
        urls = (f"{NOWHERE}/a", f"{url}/absent", f"{url}/slump_test.data")
        monkeypatch.setitem(
            problems.PROBLEMS, "concrete", with_file(problems.PROBLEMS["concrete"], urls=urls)
        )
        assert problems.load_problem("concrete").inputs.shape == (10, 7)
    assert records == []


def test_without_network_one_error_says_what_to_do(cache):
    with pytest.raises(_errors.DataError) as caught:
        problems.load_problem("concrete")
    (file,) = problems.PROBLEMS["concrete"].files
    assert_one_error(
        caught.value, *file.urls, file.sha256, cache / "slump_test.data", _download.ENVIRONMENT
    )
    assert list(cache.iterdir()) == []


def test_server_that_never_answers_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(_download, "TIMEOUT", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(_download.ENVIRONMENT, f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(_errors.DataError) as caught:
            problems.load_problem("concrete")
    assert_one_error(caught.value, "Timeout")
    assert time.perf_counter() - start < 4, "the limit of 0.2 s was not kept"


@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_broken_download_leaves_no_partial_file(protocol, cache, mirror, monkeypatch):
    monkeypatch.setattr(BreaksOff, "protocol_version", protocol)
    monkeypatch.setattr(_download, "TIMEOUT", (0.2, 0.2))
    with serve(mirror, BreaksOff) as url:
        monkeypatch.setenv(_download.ENVIRONMENT, url)
        with pytest.raises(_errors.DataError) as caught:
            problems.load_problem("concrete")
    assert_one_error(caught.value, url, cache / "slump_test.data")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    "content", [SLUMP.replace("2.5", "2.6"), SLUMP[:-40], ""], ids=["corrupt", "truncated", "empty"]
)
def test_wrong_content_is_one_error_with_both_checksums(content, cache, mirror, monkeypatch):
    (mirror / "slump_test.data").write_text(content, encoding="utf-8", newline="")
    checksums = (
        problems.PROBLEMS["concrete"].files[0].sha256,
        hashlib.sha256(content.encode()).hexdigest(),
    )
    with serve(mirror) as url:
        for source in (str(mirror), url):
            monkeypatch.setenv(_download.ENVIRONMENT, source)
            with pytest.raises(_errors.DataError) as caught:
                problems.load_problem("concrete")
            assert_one_error(
                caught.value, source, "slump_test.data", _download.ENVIRONMENT, *checksums
            )
    assert list(cache.iterdir()) == []


def test_corrupt_cached_file_is_fetched_again_and_never_used(cache, mirror, monkeypatch):
    cache.mkdir(parents=True)
    (cache / "slump_test.data").write_text("half a fi", encoding="utf-8")
    with pytest.raises(_errors.DataError) as caught:
        problems.load_problem("concrete")
    assert_one_error(caught.value, "corrupt", hashlib.sha256(b"half a fi").hexdigest(), NOWHERE)
    with serve(mirror) as url:
        monkeypatch.setenv(_download.ENVIRONMENT, url)
        assert problems.load_problem("concrete").inputs.shape == (10, 7)
    assert (cache / "slump_test.data").read_text(encoding="utf-8") == SLUMP


@pytest.mark.parametrize("file", [IMAGES, LABELS], ids=["images", "labels"])
@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda content: gzip.compress(content[:-1] + b"?"), "{digest}"),
        (lambda content: gzip.compress(content[:-1]), "{digest}"),
        (lambda content: content[:-1] + b"?", "{digest}"),
        (lambda content: b"", "{digest}"),
        (lambda content: gzip.compress(content + b"?"), "more than {n_bytes} bytes"),
        (lambda content: content + b"?", "more than {n_bytes} bytes"),
        (lambda content: gzip.compress(bytes(len(content) * 500)), "more than {n_bytes} bytes"),
        (lambda content: gzip.compress(content)[:-9], "a broken gzip file"),
        (lambda content: gzip.compress(content)[:-8] + bytes(8), "a broken gzip file"),
        (lambda content: gzip.compress(content)[:10] + b"\xff" * 30, "a broken gzip file"),
        (lambda content: gzip.compress(content) + b"?", "a broken gzip file"),
    ],
    ids=["one byte", "short", "one byte, unpacked", "empty", "long", "long, unpacked", "bomb",
         "cut off", "checksum", "not deflated", "more behind it"],
)  # fmt: skip
def test_wrong_packed_file_is_one_error_and_not_kept(
    spoil, complaint, file, packed, cache, mirror, monkeypatch
):
    content = spoil(packed[file.plain])
    (mirror / file.name).write_bytes(content)
    (problem_file,) = (f for f in problems.PROBLEMS["mnist-60000"].files if f.name == file.name)
    if complaint == "{digest}":
        unpacked = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        complaint = hashlib.sha256(unpacked).hexdigest()
    complaint = complaint.format(n_bytes=problem_file.n_bytes)
    with serve(mirror) as url:
        for source in (str(mirror), url):
            monkeypatch.setenv(_download.ENVIRONMENT, source)
            with pytest.raises(_errors.DataError) as caught:
                problems.load_problem("mnist-60000")
            expected = f"unpacked SHA-256 {problem_file.sha256}"
            assert_one_error(
                caught.value, source, file.name, _download.ENVIRONMENT, expected, complaint
            )
    assert [path.name for path in cache.iterdir()] == ([] if file is IMAGES else [IMAGES.plain])


def test_corrupt_cached_unpacked_file_is_fetched_again(packed, cache, mirror, monkeypatch):
    cache.mkdir(parents=True)
    (cache / IMAGES.plain).write_bytes(packed[IMAGES.plain][:-1])
    with pytest.raises(_errors.DataError) as caught:
        problems.load_problem("mnist-60000")
    received = hashlib.sha256(packed[IMAGES.plain][:-1]).hexdigest()
    assert_one_error(
        caught.value, f"{NOWHERE}/a", f"{NOWHERE}/b", cache / IMAGES.plain, "corrupt", received
    )
    with serve(mirror) as url:
        monkeypatch.setenv(_download.ENVIRONMENT, url)
        assert problems.load_problem("mnist-60000").inputs.shape == (150, 28, 28, 1)
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == packed


@pytest.mark.parametrize("file", [IMAGES, LABELS], ids=["images", "labels"])
def test_one_missing_file_of_two_is_one_error_with_its_name(
    file, packed, cache, mirror, monkeypatch
):
    (mirror / file.name).unlink()
    monkeypatch.setenv(_download.ENVIRONMENT, str(mirror))
    with pytest.raises(
        _errors.DataError, match=rf"^{file.name} \(unpacked SHA-256 \w{{64}}\) is not in "
    ) as caught:
        problems.load_problem("mnist-60000")
    assert_one_error(caught.value, mirror, _download.ENVIRONMENT, f"{NOWHERE}/a")


def test_no_more_is_unpacked_than_the_file_should_have(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(2**26)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="^more than 9000 bytes$"):
            _download._content(tmp_path / "bomb.gz", 9000)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_no_more_is_downloaded_than_the_file_should_have(packed, cache, mirror, monkeypatch):
    with serve(mirror, GoesOn) as url:
        monkeypatch.setenv(_download.ENVIRONMENT, url)
        with pytest.raises(_errors.DataError) as caught:
            problems.load_problem("mnist-60000")
    assert_one_error(caught.value, url, "more than 156816 bytes")
    assert list(cache.iterdir()) == [] and not GoesOn.finished


def test_bomb_in_transport_is_refused(packed, cache, mirror, monkeypatch):
    (mirror / IMAGES.name).write_bytes(gzip.compress(bytes(2**26)))
    monkeypatch.setattr(
        _download, "_content", lambda path, n_bytes: pytest.fail("the whole bomb was stored")
    )
    with serve(mirror, Unpacks) as url:
        monkeypatch.setenv(_download.ENVIRONMENT, url)
        with pytest.raises(_errors.DataError) as caught:
            problems.load_problem("mnist-60000")
    assert_one_error(caught.value, url, "more than 156816 bytes")
    assert list(cache.iterdir()) == []


def test_folder_without_the_file_is_one_error_and_nothing_else_is_tried(cache, mirror, monkeypatch):
    with serve(mirror) as url:
        problem = with_file(problems.PROBLEMS["concrete"], urls=(f"{url}/slump_test.data",))
        monkeypatch.setitem(problems.PROBLEMS, "concrete", problem)
        monkeypatch.setenv(_download.ENVIRONMENT, str(mirror / "elsewhere"))
        with pytest.raises(_errors.DataError) as caught:
            problems.load_problem("concrete")
    (file,) = problem.files
    assert_one_error(caught.value, file.name, mirror / "elsewhere", file.sha256, *file.urls)
    assert not cache.exists()


def test_embedded_file_is_checked_too_and_not_taken_from_the_mirror(tmp_path, monkeypatch):
    monkeypatch.setenv(_download.ENVIRONMENT, str(tmp_path / "elsewhere"))
    assert problems.load_problem("fuel").inputs.shape == (272, 9)
    monkeypatch.setattr(_download, "EMBEDDED", tmp_path)
    with pytest.raises(
        _errors.DataError, match=r"auto-mpg\.csv .* is not in .* Restore it from the repository\."
    ):
        problems.load_problem("fuel")
    (tmp_path / "auto-mpg.csv").write_text("cylinders", encoding="utf-8")
    with pytest.raises(
        _errors.DataError, match=r"auto-mpg\.csv is corrupt: expected SHA-256 c886.*, received "
    ):
        problems.load_problem("fuel")


def test_module_works_without_pooch_for_the_embedded_problems():
    without = "import sys; sys.modules.update(pooch=None, requests=None)"
    code = (
        f"{without}; from collective_variables.data import problems; problems.load_problem('fuel')"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)
