"""What a user may say of a file where its own evidence does not decide, or decides wrongly."""

from dataclasses import dataclass

from collective_variables.data._errors import DataError


@dataclass(frozen=True)
class Options:
    """How the texts of a file are read, as `reading.read_file` describes.

    Attributes:
        encoding: Of a text file, None to find it out.
        decimal: "." or ",", None to find it out.
        day_first: Whether 01/02/2020 is in February, None to find it out.
        header: Whether the first line of a text file holds names, None to find it out.
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
                # Not `codecs.lookup`, which also knows what is no encoding of texts, such as zip.
                b"a".decode(self.encoding, errors="replace")
            except LookupError:
                raise DataError(
                    "The option encoding must be the name of an encoding, such as utf-8, cp1252 or "
                    f"utf-16: received {self.encoding!r}."
                ) from None
