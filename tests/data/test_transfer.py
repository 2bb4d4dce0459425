"""Downloads over connections that break, servers that are busy, and proxies."""

import gzip
import io
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import requests

from collective_variables.data import _transfer

CONTENT = np.random.default_rng(0).bytes(300_000)
TIMEOUT = (1.0, 0.5)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(_transfer.time, "sleep", waited.append)
    monkeypatch.setattr(_transfer, "PIECE", 10_000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    waited.clear()


waited = []


@contextmanager
def serving(*answers):
    """A server that gives one of `answers` after the other, the last for ever; the requests that it
    got.
    """
    received = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            received.append((self.path, dict(self.headers)))
            answers[min(len(received), len(answers)) - 1](self)
            self.close_connection = True

        def log_message(self, format, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(handler, status, headers, content):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, str(value))
    handler.end_headers()
    handler.wfile.write(content)


def whole(handler):
    send(handler, 200, {"Content-Length": len(CONTENT)}, CONTENT)


def breaking(at):
    """Sends the content up to a byte, although it promises more; from where it is asked to."""

    def answer(handler):
        begin = int(
            handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        )
        headers = {"Content-Length": len(CONTENT) - begin}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
        send(handler, 206 if begin else 200, headers, CONTENT[begin:at])

    return answer


def failing(status):
    return lambda handler: send(handler, status, {"Content-Length": 0}, b"")


def packed(at):
    def answer(handler):
        content = gzip.compress(CONTENT)
        send(
            handler, 200, {"Content-Length": len(content), "Content-Encoding": "gzip"}, content[:at]
        )

    return answer


def fetched(url):
    file = io.BytesIO()
    _transfer.fetch(url, file, timeout=TIMEOUT)
    return file.getvalue()


def test_a_broken_download_goes_on_where_it_was():
    with serving(breaking(100_000), breaking(200_000), breaking(None)) as (url, received):
        assert fetched(url) == CONTENT
    asked = [headers.get("Range") for _, headers in received]
    assert asked == [None, "bytes=100000-", "bytes=200000-"] and waited == [0.5, 1.0]


def test_a_server_that_knows_no_ranges_sends_everything_again():
    with serving(breaking(100_000), whole) as (url, received):
        assert fetched(url) == CONTENT
    assert received[1][1]["Range"] == "bytes=100000-"


def test_a_range_that_begins_elsewhere_is_not_taken_for_the_rest():
    def elsewhere(handler):
        send(
            handler,
            206,
            {"Content-Length": len(CONTENT), "Content-Range": f"bytes 0-299999/{len(CONTENT)}"},
            CONTENT,
        )

    with serving(breaking(100_000), elsewhere) as (url, _):
        assert fetched(url) == CONTENT


def test_what_is_packed_on_the_way_begins_anew():
    with serving(packed(100_000), packed(None)) as (url, received):
        assert fetched(url) == CONTENT
    assert "Range" not in received[1][1]


@pytest.mark.parametrize("status", _transfer.TEMPORARY)
def test_a_busy_server_is_asked_again_and_not_for_ever(status):
    with serving(failing(status), failing(status), whole) as (url, received):
        assert fetched(url) == CONTENT
    with (
        serving(failing(status)) as (url, received),
        pytest.raises(requests.HTTPError, match=str(status)),
    ):
        fetched(url)
    assert len(received) == _transfer.ATTEMPTS and waited[-3:] == [0.5, 1.0, 2.0]


def test_a_range_that_is_refused_begins_anew():
    with serving(breaking(100_000), failing(416), whole) as (url, received):
        assert fetched(url) == CONTENT
    assert [headers.get("Range") for _, headers in received] == [None, "bytes=100000-", None]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_answer_that_will_not_change_is_final(status):
    with (
        serving(failing(status)) as (url, received),
        pytest.raises(requests.HTTPError, match=str(status)),
    ):
        fetched(url)
    assert len(received) == 1 and waited == []


def test_a_connection_that_always_breaks_is_given_up():
    with serving(breaking(0)) as (url, received), pytest.raises(requests.RequestException):
        fetched(url)
    assert len(received) == _transfer.ATTEMPTS


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_of_the_usual_variables_is_used(name, monkeypatch):
    with serving(whole) as (proxy, received):
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv(name, proxy)
        assert fetched("http://data.example/file") == CONTENT
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        fetched(f"{proxy}/direct")
    assert [path for path, _ in received] == ["http://data.example/file", "/direct"]


def test_an_error_of_the_file_is_not_one_of_the_connection():
    class Full(io.BytesIO):
        def write(self, piece):
            raise OSError(28, "No space left on device")

    with serving(whole) as (url, received), pytest.raises(OSError, match="No space left"):
        _transfer.fetch(url, Full(), timeout=TIMEOUT)
    assert len(received) == 1
