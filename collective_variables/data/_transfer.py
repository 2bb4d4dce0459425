"""Download a URL over connections that break."""

import time
from typing import BinaryIO

from collective_variables import _extras

ATTEMPTS = 4
BACK_OFF = 0.5  # seconds before the second attempt; twice as many before each further one
PIECE = 2**16
# Answers that may change a moment later: the server is late or busy, or has no range of the file
# left.
TEMPORARY = (408, 416, 425, 429, 500, 502, 503, 504)


def fetch(url: str, file: BinaryIO, *, timeout: tuple[float, float]) -> None:
    """Write the content of `url` to an empty file that is open for writing.

    After a broken or silent connection, or a temporary failure of the server, the download is tried
    again, up to `ATTEMPTS` times with growing pauses. It resumes where it stopped if the server can
    send a part of the file. The variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY set the proxies.
    Also raises requests.ConnectionError, Timeout or ChunkedEncodingError after the last attempt.

    Args:
        url: Address of the file.
        file: Receives the content.
        timeout: Seconds to connect, and between two pieces.

    Raises:
        requests.HTTPError: The server refuses, or fails in the last attempt.
    """
    with _extras.required("data"):
        import requests

    broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    for attempt in range(1, ATTEMPTS + 1):
        start = file.tell()
        try:
            return _resume(url, file, timeout)
        except broken:
            if attempt == ATTEMPTS:
                raise
        except requests.HTTPError as error:
            if attempt == ATTEMPTS or error.response.status_code not in TEMPORARY:
                raise
            if start:
                _empty(file)
        time.sleep(BACK_OFF * 2 ** (attempt - 1))


def _resume(url: str, file: BinaryIO, timeout: tuple[float, float]) -> None:
    """Append the rest of the content to `file`, or write all of it if the server sends all."""
    import requests

    start = file.tell()
    # Part of a packed transfer could not be unpacked.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, timeout=timeout, stream=True) as answer:
        answer.raise_for_status()
        is_rest = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        if start and not (answer.status_code == 206 and is_rest):
            _empty(file)
        is_packed = "Content-Encoding" in answer.headers
        try:
            # Piece by piece, because a file may refuse to grow.
            for piece in answer.iter_content(PIECE):  # noqa: FURB122
                file.write(piece)
        except Exception:
            if is_packed:
                _empty(file)
            raise


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()
