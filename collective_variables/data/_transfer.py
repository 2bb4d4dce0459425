"""One URL into one open file, over connections that break."""

import time
from typing import BinaryIO

ATTEMPTS = 4
BACK_OFF = 0.5  # seconds before the second attempt; twice as many before each further one
PIECE = 2**16
# What a server may answer better a moment later: it is late, or has too much to do; or no range of
# the file is left.
PASSING = (408, 416, 425, 429, 500, 502, 503, 504)


def fetch(url: str, file: BinaryIO, *, timeout: tuple[float, float]) -> None:
    """Write the content of `url` to an empty file that is open to write.

    After a broken connection, one that is silent for longer than `timeout` (seconds to connect, and
    between two pieces), or an answer that says to come again, it is asked for up to `ATTEMPTS`
    times, later each time, and only for the rest if the server can tell where that begins. Proxies
    are those of the usual variables HTTP_PROXY, HTTPS_PROXY, NO_PROXY.

    Raises the last failure as one of `requests.RequestException`.
    """
    # Imported here because the package has to import without requests.
    import requests

    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    for attempt in range(1, ATTEMPTS + 1):
        begun = file.tell()
        try:
            return _go_on(url, file, timeout)
        except broken:
            if attempt == ATTEMPTS:
                raise
        except requests.HTTPError as error:
            if attempt == ATTEMPTS or error.response.status_code not in PASSING:
                raise
            if begun:
                _empty(file)
        time.sleep(BACK_OFF * 2 ** (attempt - 1))


def _go_on(url: str, file: BinaryIO, timeout: tuple[float, float]) -> None:
    """Write what `url` has behind what `file` has; all of it where the server sends all of it."""
    import requests

    begun = file.tell()
    # A part of what is packed on the way would be of no use.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
    with requests.get(url, headers=headers, timeout=timeout, stream=True) as answer:
        answer.raise_for_status()
        is_rest = answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
        if begun and not (answer.status_code == 206 and is_rest):
            _empty(file)
        is_packed = "Content-Encoding" in answer.headers
        try:
            # Each by itself: a file may refuse to grow.
            for piece in answer.iter_content(PIECE):  # noqa: FURB122
                file.write(piece)
        except Exception:
            if is_packed:
                _empty(file)
            raise


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()
