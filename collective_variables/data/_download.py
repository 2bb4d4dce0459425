"""Find the files of the problems: embedded, in the user's folder, or downloaded and checked."""

import gzip
import hashlib
import io
import os
import zlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from collective_variables import _extras
from collective_variables.data import _errors, _transfer

EMBEDDED = Path(str(resources.files("collective_variables.data") / "embedded"))
ENVIRONMENT = "COLLECTIVE_VARIABLES_DATA"
TIMEOUT = (4.0, 15.0)  # seconds to connect, and between two pieces of an answer
MAX_BYTES = 2**26  # of a file that is not packed


@dataclass(frozen=True)
class File:
    """A file of a problem.

    A file with `n_bytes` is packed by gzip, and its name ends in .gz. It may also lie unpacked
    under the name `plain`.

    Attributes:
        name: Name of the file.
        sha256: SHA-256 of the file; of its content if it is packed, since every mirror packs it
            differently.
        urls: Public addresses; a file without one is embedded in the package.
        n_bytes: Size of the content of a packed file; None if the file is not packed.
    """

    name: str
    sha256: str
    urls: tuple[str, ...] = ()
    n_bytes: int | None = None

    @property
    def plain(self) -> str:
        """The name of the unpacked file."""
        return self.name.removesuffix(".gz")

    @property
    def checksum(self) -> str:
        """The checksum in words, for messages."""
        return f"{'SHA-256' if self.n_bytes is None else 'unpacked SHA-256'} {self.sha256}"


def locate(file: File) -> Path:
    """Return the path of the file after a check of its checksum; raises DataError."""
    if not file.urls:
        return _in_folder(file, EMBEDDED, "Restore it from the repository.")
    source = os.environ.get(ENVIRONMENT, "")
    if source.lower().startswith(("http://", "https://")):
        return _download(file, (f"{source.rstrip('/')}/{file.name}",))
    if source:
        urls = " or ".join(file.urls)
        remedy = f"{ENVIRONMENT} names the folder: put the file there, or unset it to try {urls}."
        return _in_folder(file, Path(os.path.expanduser(source)).absolute(), remedy)
    return _download(file, file.urls)


def _in_folder(file: File, folder: Path, remedy: str) -> Path:
    """Return the path of the file in `folder`; the message of a DataError ends with `remedy`."""
    names = (file.plain, file.name)
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise _errors.DataError(f"{file.name} ({file.checksum}) is not in {folder}. {remedy}")
    if (received := _sha256(path, file)) != file.sha256:
        raise _errors.DataError(
            f"{path} is corrupt: expected {file.checksum}, received {received}. {remedy}"
        )
    return path


def _download(file: File, urls: tuple[str, ...]) -> Path:
    """Return the path of the unpacked file in the cache, downloaded from the first URL that has it.

    A cached file with another checksum is downloaded again. A broken download resumes. pooch moves
    a download to its name once its checksum is right, so neither a partial nor a wrong file stays.

    Raises:
        DataError: No URL gives the file; the message names the failure of each.
    """
    # pooch brings requests.
    with _extras.required("data"):
        import pooch
        import requests

    pooch.get_logger().setLevel("ERROR")
    cache = pooch.os_cache("collective-variables")
    cached = cache / file.plain
    # pooch checks this too, except for a packed file that someone has put there.
    if cached.is_file() and _sha256(cached, file) == file.sha256:
        return cached

    def fetch(url: str, path: str, caller: object) -> None:
        """Download to `path`, which pooch checks afterwards, and unpack it there."""
        # A packed file is smaller than its content.
        with _Limited(path, file.n_bytes or MAX_BYTES) as stream:
            _transfer.fetch(url, stream, timeout=TIMEOUT)
        if file.n_bytes is not None:
            Path(path).write_bytes(_content(Path(path), file.n_bytes))

    failures = []
    for url in urls:
        try:
            return Path(
                pooch.retrieve(url, file.sha256, fname=file.plain, path=cache, downloader=fetch)
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            # Their messages are long and hide the kind of failure.
            failures.append(f"{url}: the connection failed ({type(error).__name__})")
        except (OSError, ValueError) as error:
            failures.append(f"{url}: {error}")
    if cached.is_file():
        failures.append(
            f"{cached}: corrupt, expected {file.checksum}, received {_sha256(cached, file)}"
        )
    remedy = (
        f"Put the file with {file.checksum} at {cached}, "
        f"or set {ENVIRONMENT} to a folder that holds it."
    )
    lines = "\n  ".join([f"{file.name} could not be downloaded:", *failures])
    raise _errors.DataError(f"{lines}\n{remedy}")


class _Limited(io.FileIO):
    """A file open for writing that refuses to grow beyond `limit` bytes.

    requests unpacks a packed answer during the download, so its size is not known in advance.
    """

    def __init__(self, path: str, limit: int) -> None:
        super().__init__(path, "wb")
        self.limit = limit

    def write(self, piece: bytes, /) -> int:  # pyrefly: ignore[bad-override]
        if self.tell() + len(piece) > self.limit:
            raise ValueError(f"more than {self.limit} bytes")
        return super().write(piece)


def open_unpacked(path: Path) -> BinaryIO:
    """Return a stream of the content of a file, unpacked if the file is packed by gzip."""
    # The name does not decide, because a server may unpack a file as it sends it.
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _content(path: Path, n_bytes: int) -> bytes:
    """Return the content of a file, packed or not.

    Raises:
        ValueError: The file is broken, or its content has more than `n_bytes`.
    """
    try:
        with open_unpacked(path) as file:
            content = file.read(n_bytes + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"a broken gzip file ({error})") from None
    if len(content) > n_bytes:
        raise ValueError(f"more than {n_bytes} bytes")
    return content


def _sha256(path: Path, file: File) -> str:
    """Return the SHA-256 of a copy of the file in hexadecimal, or why it cannot be read."""
    if file.n_bytes is None:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        return hashlib.sha256(_content(path, file.n_bytes)).hexdigest()
    except ValueError as error:
        return str(error)
