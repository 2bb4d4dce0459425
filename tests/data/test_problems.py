"""Data sets: values against plain-Python recomputation from the raw files, and every way in which a
file can fail.
"""

import csv
import gzip
import hashlib
import logging
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import scipy.io

from collective_variables.data import _download, _errors, _readers, _transfer, problems

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "https://127.0.0.1:9"
# A file in the format of Concrete: a row number, 7 inputs, 3 targets.
SLUMP = "No" + ",x" * 10
for row in range(12):
    SLUMP += "\n" + ",".join(str(row + 0.5 * column**2) for column in range(11))
IMAGES, LABELS = problems.PROBLEMS["mnist-60000"].files
# The heads of two idx files without the number of points, which follows the fourth byte.
HEADS = {IMAGES: (b"\0\0\x08\3", b"\0\0\0\x1c" * 2), LABELS: (b"\0\0\x08\1", b"")}


def embedded():
    """The images (10000, 28, 28), labels (10000,) and index (10000,) of mnist_10k.npz."""
    with np.load(ROOT / "data" / "mnist_10k.npz", allow_pickle=False) as file:
        return file["images"], file["labels"], file["index"]


def idx(file, array):
    """The content of an idx file that holds `array`."""
    before, after = HEADS[file]
    return before + len(array).to_bytes(4, "big") + after + array.tobytes()


def with_file(problem, file=None, **changes):
    """The problem with other fields of a file, by default of its only one."""
    (only,) = problem.files if file is None else (file,)
    return replace(
        problem,
        files=tuple(replace(f, **changes) if f.name == only.name else f for f in problem.files),
    )


def public_folders():
    """What stands for the public files: made ones everywhere, and the real ones where they are."""
    named, mirror = (
        os.environ.get(_download.ENVIRONMENT),
        ROOT.parent / "shared" / "data" / "mirror",
    )
    return ["made files", *([named] if named else [str(mirror)] if mirror.is_dir() else [])]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A folder with files of the sizes and peculiarities of the public ones, which may not be
    committed.
    """
    generator = np.random.default_rng(0)
    rows = np.column_stack([np.arange(1, 104), generator.uniform(0, 900, size=(103, 10)).round(2)])
    np.savetxt(
        tmp_path / "slump_test.data",
        rows,
        fmt="%.10g",
        delimiter=",",
        header="No" + ",x" * 10,
        comments="",
    )
    features = generator.normal(size=(48, 321))
    features[:, 8:16] = features[:, :8]
    features[:, 170] = features[:, 169]
    features[1, 170] += 1.0
    features[43, 111] = np.nan
    persons = np.repeat(np.arange(16), 3).astype(np.uint8)[:, None]
    scipy.io.savemat(tmp_path / "PersonGaitDataSet.mat", {"X": features, "Y": persons})
    for name in ("concrete", "gait"):
        problem = problems.PROBLEMS[name]
        digest = hashlib.sha256((tmp_path / problem.files[0].name).read_bytes()).hexdigest()
        monkeypatch.setitem(problems.PROBLEMS, name, with_file(problem, sha256=digest))
    return tmp_path


@pytest.fixture(
    params=public_folders(), ids=lambda folder: "made" if folder == "made files" else "public"
)
def public(request, monkeypatch):
    """A folder, or a base URL's cache, with the files of Concrete and Gait."""
    made_here = request.param == "made files"
    monkeypatch.setenv(
        _download.ENVIRONMENT, str(request.getfixturevalue("made")) if made_here else request.param
    )
    return _download.locate(problems.PROBLEMS["gait"].files[0]).parent


@pytest.fixture(
    params=public_folders(), ids=lambda folder: "made" if folder == "made files" else "public"
)
def all_of_mnist(request, tmp_path, monkeypatch):
    """The 60000 images and labels as uint8; the made ones are the embedded 10000 in their places
    among zeros.
    """
    if request.param != "made files":
        monkeypatch.setenv(_download.ENVIRONMENT, request.param)
        contents = []
        for file in (IMAGES, LABELS):
            path = _download.locate(file)
            contents.append(
                gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            )
        return np.frombuffer(contents[0], np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(
            contents[1][8:], np.uint8
        )
    monkeypatch.setenv(_download.ENVIRONMENT, str(tmp_path))
    images, labels = np.zeros((60000, 28, 28), np.uint8), np.zeros(60000, np.uint8)
    some_images, some_labels, index = embedded()
    images[index], labels[index] = some_images, some_labels
    for file, array in ((IMAGES, images), (LABELS, labels)):
        content = idx(file, array)
        (tmp_path / file.plain).write_bytes(content)
        problem = with_file(
            problems.PROBLEMS["mnist-60000"], file, sha256=hashlib.sha256(content).hexdigest()
        )
        monkeypatch.setitem(problems.PROBLEMS, "mnist-60000", problem)
    return images, labels


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


def fuel_table():
    """The 9 inputs and the target of each row of the raw file, in plain Python."""
    with (ROOT / "data" / "auto-mpg.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("cylinders", "displacement", "horsepower", "weight", "acceleration", "model_year")
    numeric = [[float(row[name]) for name in names] for row in rows]
    origin = [[float(row["origin"] == code) for code in "123"] for row in rows]
    return [[*n, *o, float(row["mpg"])] for n, o, row in zip(numeric, origin, rows)]


def slump_table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return [[float(value) for value in row[1:]] for row in list(csv.reader(file))[1:]]


def assert_z_scores(dataset, table, reference):
    """Compare with z-scores by the rows `reference` of `table` (inputs, then targets), up to
    rounding to float32.
    """
    columns = list(zip(*[table[row] for row in reference]))
    means, stds = [statistics.fmean(c) for c in columns], [statistics.pstdev(c) for c in columns]
    for rows, inputs, targets in (
        (dataset.index, dataset.inputs, dataset.targets),
        (dataset.test_index, dataset.test_inputs, dataset.test_targets),
    ):
        expected = [[(x - m) / s for x, m, s in zip(table[row], means, stds)] for row in rows]
        received = np.hstack([inputs, targets])
        np.testing.assert_allclose(received, expected, rtol=np.finfo(np.float32).eps, atol=1e-12)


def assert_one_error(error, *parts):
    """One error without a chain of tracebacks, whose message has all `parts`."""
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    for part in parts:
        assert str(part) in str(error)


@pytest.mark.parametrize(
    ("name", "n_pool", "n_test", "point", "n_outputs", "task"),
    [
        ("fuel", 272, 120, (9,), 1, "regression"),
        ("mnist", 9500, 500, (28, 28, 1), 10, "classification"),
        ("concrete", 93, 10, (7,), 3, "regression"),
        ("gait", 38, 10, (321,), 16, "classification"),
    ],
)
def test_default_is_table_1_of_the_paper(name, n_pool, n_test, point, n_outputs, task, public):
    d = problems.load_problem(name)
    assert (d.inputs.shape, d.targets.shape) == ((n_pool, *point), (n_pool, n_outputs))
    assert (d.test_inputs.shape, d.test_targets.shape) == ((n_test, *point), (n_test, n_outputs))
    assert {a.dtype for a in (d.inputs, d.targets, d.test_inputs, d.test_targets)} == {
        np.dtype("float32")
    }
    assert d.index.dtype == d.test_index.dtype == np.int64
    assert sorted([*d.index, *d.test_index]) == list(range(n_pool + n_test))
    assert (d.name, d.task) == (name, task)
    with pytest.raises(FrozenInstanceError):
        d.inputs = None


def test_split_is_the_documented_permutation():
    d = problems.load_problem("fuel", n_test=7, n_available=50, seed=3)
    rows = np.random.default_rng(3).permutation(392)[:50]
    assert [*d.test_index, *d.index] == list(rows) and len(d.test_index) == 7


def test_split_depends_on_the_seed_alone():
    first, again, other = (problems.load_problem("fuel", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    np.testing.assert_array_equal(first.index, again.index)
    assert set(first.test_index) != set(other.test_index)


def test_scaling_uses_statistics_of_the_pool_alone():
    d = problems.load_problem("fuel")
    assert_z_scores(d, fuel_table(), d.index)


def test_scaling_all_uses_the_available_rows_test_included():
    d = problems.load_problem("fuel", scaling="all", n_available=200)
    assert_z_scores(d, fuel_table(), [*d.index, *d.test_index])
    with pytest.raises(AssertionError):
        assert_z_scores(d, fuel_table(), d.index)
    with pytest.raises(AssertionError):
        assert_z_scores(d, fuel_table(), range(392))


def test_concrete_has_seven_components_before_three_scaled_targets(public):
    d = problems.load_problem("concrete", seed=5)
    assert_z_scores(d, slump_table(public / "slump_test.data"), d.index)


def test_column_constant_in_the_pool_becomes_zero_everywhere():
    table = np.full((8, 2), 0.1)
    table[:, 1] = np.arange(8)
    table[7, 0] = 5.0  # a test point differs in the column that is constant in the pool
    assert table[:7, 0].std() > 0, (
        "negative control: the rounded mean hides that the column is constant"
    )
    scaled = problems.z_score(table, np.arange(7))
    assert (scaled[:, 0] == 0).all() and (scaled[:, 1] == (np.arange(8) - 3) / 2).all()


def test_mnist_is_divided_by_255_under_either_scaling():
    images, labels, _ = embedded()
    for scaling in ("train", "all"):
        d = problems.load_problem("mnist", scaling=scaling, n_available=300, n_test=100)
        for rows, inputs, targets in (
            (d.index, d.inputs, d.targets),
            (d.test_index, d.test_inputs, d.test_targets),
        ):
            np.testing.assert_array_equal(inputs[..., 0], images[rows] / np.float32(255))
            np.testing.assert_array_equal(targets.argmax(axis=1), labels[rows])
            assert ((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all()


def test_grey_values_are_those_of_a_division_in_float64():
    values = np.arange(256, dtype=np.uint8)
    grey = _readers._grey(values[:, None, None])
    assert grey.dtype == np.float32 and grey.shape == (256, 1, 1, 1)
    assert grey.ravel().tolist() == (values / 255.0).astype(np.float32).tolist()


def test_mnist_60000_has_every_training_image_in_pool_or_test(all_of_mnist):
    images, labels = all_of_mnist
    d = problems.load_problem("mnist-60000")
    assert (d.inputs.shape, d.test_inputs.shape) == ((59500, 28, 28, 1), (500, 28, 28, 1))
    assert (d.targets.shape, d.test_targets.shape) == ((59500, 10), (500, 10))
    assert {a.dtype for a in (d.inputs, d.targets, d.test_inputs, d.test_targets)} == {
        np.dtype("float32")
    }
    assert sorted([*d.index, *d.test_index]) == list(range(60000))
    assert (d.name, d.task) == ("mnist-60000", "classification")
    for rows, inputs, targets in (
        (d.index, d.inputs, d.targets),
        (d.test_index, d.test_inputs, d.test_targets),
    ):
        np.testing.assert_array_equal(inputs[..., 0], images[rows] / np.float32(255))
        np.testing.assert_array_equal(targets, labels[rows, None] == np.arange(10))


def test_the_embedded_images_are_rows_of_the_60000(all_of_mnist):
    images, labels, index = embedded()
    assert (np.diff(index) > 0).all(), "10000 different rows"
    inputs, targets = _readers.read_mnist_60000(
        *map(_download.locate, problems.PROBLEMS["mnist-60000"].files)
    )
    some_inputs, some_targets = _readers.read_mnist(ROOT / "data" / "mnist_10k.npz")
    np.testing.assert_array_equal(inputs[index], some_inputs)
    np.testing.assert_array_equal(targets[index], some_targets)


def test_60000_images_take_half_a_gibibyte_to_load(all_of_mnist):
    tracemalloc.start()
    try:
        problems.load_problem("mnist-60000")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # float32 takes 188 MB twice, of every image and of the pool; a float64 copy 376 MB more.
    assert 2 * 188e6 < peak < 2**29


def test_gait_targets_are_one_hot_with_three_walks_a_person(public):
    d = problems.load_problem("gait")
    targets = np.concatenate([d.targets, d.test_targets])
    assert ((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all()
    assert (targets.sum(axis=0) == 3).all()
    assert [*np.concatenate([d.index, d.test_index]) // 3] == [*targets.argmax(axis=1)]


def test_gait_keeps_its_eight_pairs_of_duplicate_columns(public):
    d = problems.load_problem("gait")
    # In every row: a ninth pair, 169 and 170, differs in row 1 alone, which is a test point for
    # seed 0.
    columns = np.concatenate([d.inputs, d.test_inputs]).T
    assert sum((a == b).all() for i, a in enumerate(columns) for b in columns[:i]) == 8


def test_missing_gait_value_becomes_the_mean_of_the_observed_rows(public):
    raw = scipy.io.loadmat(public / "PersonGaitDataSet.mat")["X"]
    filled, _ = _readers.read_gait(public / "PersonGaitDataSet.mat")
    assert [tuple(place) for place in np.argwhere(filled != raw)] == [(43, 111)]
    assert filled[43, 111] == pytest.approx(
        statistics.fmean(float(x) for x in np.delete(raw[:, 111], 43)), rel=1e-14
    )


def test_gait_reader_on_a_small_file(tmp_path):
    features = np.array([[1.0, 2.0], [np.nan, 4.0], [5.0, 9.0]])
    scipy.io.savemat(
        tmp_path / "gait.mat", {"X": features, "Y": np.array([[0], [15], [2]], dtype=np.uint8)}
    )
    inputs, targets = _readers.read_gait(tmp_path / "gait.mat")
    assert inputs.tolist() == [[1, 2], [3, 4], [5, 9]] and targets.argmax(axis=1).tolist() == [
        0,
        15,
        2,
    ]
    assert targets.shape == (3, 16) and targets.sum() == 3


def test_pickled_arrays_are_never_loaded(tmp_path):
    np.savez(tmp_path / "mnist.npz", images=np.array([{"a": 1}], dtype=object), labels=np.zeros(1))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        _readers.read_mnist(tmp_path / "mnist.npz")


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
    assert isinstance(caught.value, OSError) and list(cache.iterdir()) == []


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
    ids=["one byte", "short", "one byte, unpacked", "empty", "long", "long, unpacked", "bomb", "cut off", "checksum",
         "not deflated", "more behind it"],
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


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"name": "iris"},
            ValueError,
            f"problem must be one of {', '.join(sorted(problems.PROBLEMS))}: received 'iris'.",
        ),
        (
            {"name": 3},
            TypeError,
            f"problem must be one of {', '.join(sorted(problems.PROBLEMS))}: received 3.",
        ),
        ({"n_test": 0}, ValueError, "n_test must be at least 1: received 0."),
        ({"n_test": -5}, ValueError, "n_test must be at least 1: received -5."),
        ({"n_test": 2.0}, TypeError, "n_test must be an integer: received 2.0."),
        (
            {"n_test": 392},
            ValueError,
            "n_test must be less than n_available, to leave a pool: 392 >= 392.",
        ),
        (
            {"n_available": 100},
            ValueError,
            "n_test must be less than n_available, to leave a pool: 120 >= 100.",
        ),
        (
            {"n_available": 393},
            ValueError,
            "n_available must not exceed the rows of fuel: 393 > 392.",
        ),
        ({"n_available": 1}, ValueError, "n_available must be at least 2: received 1."),
        ({"seed": "0"}, TypeError, "seed must be an integer: received '0'."),
        ({"seed": None}, TypeError, "seed must be an integer: received None."),
        ({"seed": -1}, ValueError, "seed must be at least 0: received -1."),
        ({"scaling": "test"}, ValueError, "scaling must be one of all, train: received 'test'."),
    ],
)
def test_wrong_argument_is_one_error_before_a_file_is_read(arguments, error, message, monkeypatch):
    monkeypatch.setattr(_download, "locate", lambda problem: pytest.fail("a file was looked for"))
    with pytest.raises(error) as caught:
        problems.load_problem(**{"name": "fuel", **arguments})
    assert str(caught.value) == message
    assert_one_error(caught.value)


@pytest.mark.parametrize(("part", "place"), [("inputs", 0), ("targets", 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(part, place, value, monkeypatch):
    tables = [np.ones((392, 2)), np.ones((392, 1))]
    tables[place][391, 0] = value
    monkeypatch.setitem(
        problems.PROBLEMS,
        "fuel",
        replace(problems.PROBLEMS["fuel"], read=lambda path: tuple(tables)),
    )
    with pytest.raises(
        ValueError, match=rf"{part} of fuel must be finite: 1 of .* first at \(391, 0\)"
    ):
        problems.load_problem("fuel")


def test_module_works_without_pooch_for_the_embedded_problems():
    without = "import sys; sys.modules.update(pooch=None, requests=None)"
    code = f"{without}; from collective_variables import datasets; datasets.load('fuel')"
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)


def test_words_are_their_letters_and_syllables():
    with (ROOT / "data" / "words.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    dataset = problems.load_problem("words")
    for of, index, targets in zip(dataset.inputs[:300], dataset.index, dataset.targets):
        word = rows[index]["word"]
        assert of.tolist() == [
            float("abcdefghijklmnopqrstuvwxyz".index(letter) + 1) for letter in word
        ] + [0.0] * (12 - len(word))
        assert targets.tolist() == [
            float(n == int(rows[index]["n_syllables"])) for n in (1, 2, 3, 4)
        ]


def test_molecules_are_graphs_of_inverse_distances_along_their_bonds():
    with np.load(ROOT / "data" / "molecules.npz", allow_pickle=False) as file:
        numbers, positions, bonds, enthalpy = (
            file[name] for name in ("numbers", "positions", "bonds", "enthalpy")
        )
    elements = sorted({int(z) for z in numbers.ravel() if z})
    dataset = problems.load_problem("molecules")
    mean, deviation = (
        of([float(enthalpy[i]) for i in dataset.index])
        for of in (statistics.fmean, statistics.pstdev)
    )
    for graph, index, target in zip(dataset.inputs, dataset.index, dataset.targets):
        assert float(target[0]) == pytest.approx(
            (enthalpy[index] - mean) / deviation, rel=1e-5, abs=1e-6
        )
        for i in range(14):
            assert graph[i, :14].tolist() == [float(z == numbers[index, i]) for z in elements]
            for j in range(14):
                distance = (
                    sum((a - b) ** 2 for a, b in zip(positions[index, i], positions[index, j]))
                    ** 0.5
                )
                assert float(graph[i, 14 + j]) == pytest.approx(
                    1 / distance if bonds[index, i, j] else 0.0, rel=1e-5
                )
