"""Find the encoding of a text file."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from collective_variables.data._errors import DataError

CHUNK = 2**20  # bytes
MARKS = {  # the longer ones first: that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# The first bytes of files that are given the ending of a text file by mistake.
NO_TEXTS = {
    b"PK\x03\x04": "a spreadsheet or an archive: save the sheet as a text file",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet: save the sheet as a text file",
    b"\x1f\x8b": "compressed: unpack it",
    b"PAR1": "a Parquet file: end its name in .parquet",
}
ZERO_SHARE = 0.3  # of the bytes at even or odd places, in UTF-16 without a mark
# Western European texts do not hold these if Windows-1252 is right: four accented letters in a row
# (another alphabet), or signs within a word (code page 850, Shift JIS, damaged UTF-8).
NOT_WINDOWS = re.compile(
    r"(?:(?![A-Za-z])[^\W\d_]){4}"
    r"|[^\W\d_][‚„†‡ˆ‰‹“”•˜›¡¢£¤¥¦§¨©«¬¯±´¶¸¹»¼½¾¿]+[^\W\d_]"
    r"|[ÂÃâ][^\x00-\x7fÀ-ÿ]"
)
WORD = re.compile(r"[^\s,;|\"]*[^\x00-\x7f\s][^\s,;|\"]*")


class Decoding(NamedTuple):
    """The codec of an encoding, the number of lines, and a note for the user on the choice."""

    encoding: str
    n_lines: int
    note: str | None = None


def find_encoding(path: Path, asked: str | None) -> Decoding:
    """Return the encoding asked for, or else that of a mark, UTF-8, UTF-16 or Windows-1252.

    The eight-bit encodings of spreadsheets differ only in letters. Windows-1252 in place of another
    one therefore changes no number, and a note shows how it reads a word.

    Raises:
        DataError: The file cannot be decoded.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    for mark, reason in NO_TEXTS.items():
        if start.startswith(mark):
            raise DataError(f"{path.name} is not a text file but {reason}.")
    if asked is not None:
        if (n_lines := _count_lines(path, asked)) is None:
            raise DataError(
                f"{path.name} cannot be decoded as {asked}: name its encoding with the option "
                "encoding, or leave the option out."
            )
        return Decoding(asked, n_lines)
    marked = (encoding for mark, encoding in MARKS.items() if start.startswith(mark))
    encoding = next(marked, None) or _zeros(start) or "utf-8"
    if (n_lines := _count_lines(path, encoding)) is not None:
        return Decoding(encoding, n_lines)
    if encoding == "utf-8" and (word := _windows_word(path)):
        return Decoding(
            "cp1252",
            _count_lines(path, "cp1252") or 0,
            f"{path.name} is not UTF-8 and was read as Windows-1252, such as {word[:30]!r}: if "
            "that is wrong, name its encoding with the option encoding.",
        )
    line = f" (line {_wrong_line(path)})" if encoding == "utf-8" else ""
    raise DataError(
        f"{path.name} is not UTF-8{line}, UTF-16 or Windows-1252: name its encoding with the "
        'option encoding, such as cp1250, cp1251 or shift_jis, or save it as "CSV UTF-8".'
    )


def _zeros(start: bytes) -> str | None:
    """Return the UTF-16 whose first bytes have zeros in every second place, None for neither."""
    for encoding, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[::2])):
        if zeros and zeros.count(0) > ZERO_SHARE * len(zeros):
            return encoding
    return None


def _count_lines(path: Path, encoding: str) -> int | None:
    """Return the number of lines; None if the file is not in this encoding."""
    n_lines, last = 0, "\n"
    try:
        for text in _chunks(path, encoding):
            n_lines += text.count("\n")
            last = text[-1:] or last
    except UnicodeError:
        return None
    return n_lines + (last != "\n")


def _wrong_line(path: Path) -> int:
    """Return the number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeError:
                return number
    return 1


def _windows_word(path: Path) -> str | None:
    """Return a word with a letter beyond ASCII; None if the file is not Windows-1252."""
    word = None
    try:
        for text in _chunks(path, "cp1252"):
            if NOT_WINDOWS.search(text):
                return None
            if word is None and (match := WORD.search(text)):
                word = match.group()
    except UnicodeError:
        return None
    return word


def _chunks(path: Path, encoding: str) -> Iterator[str]:
    """Yield the text of a file in pieces, none of which splits a character."""
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)
