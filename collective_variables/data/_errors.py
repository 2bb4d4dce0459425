"""The error for files and tables that cannot be used."""


class DataError(ValueError):
    """A file or table cannot be used; the message names it and says what to do."""
