"""Options with which a user decides how a file is read where the file does not."""

from dataclasses import dataclass

from collective_variables.data._errors import DataError


@dataclass(frozen=True)
class Options:
    """How the texts of a file are read, as `reading.read_file` describes.

    Attributes:
        encoding: Encoding of a text file; None detects it.
        decimal: "." or ","; None detects it.
        day_first: Whether 01/02/2020 is in February; None detects it.
        header: Whether the first line of a text file holds names; None detects it.
        missing: Further cells that stand for missing values.
        texts: Columns that are kept as they are written.
    """

    encoding: str | None = None
    decimal: str | None = None
    day_first: bool | None = None
    header: bool | None = None
    missing: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.decimal not in (None, ".", ","):
            raise DataError(f"The option decimal must be . or ,: received {self.decimal!r}.")
        if self.encoding is not None:
            try:
                # `codecs.lookup` would accept codecs that are not encodings of texts, such as zip.
                b"a".decode(self.encoding, errors="replace")
            except LookupError:
                raise DataError(
                    "The option encoding must be the name of an encoding, such as utf-8, cp1252 or "
                    f"utf-16: received {self.encoding!r}."
                ) from None
