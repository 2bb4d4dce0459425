"""Define the errors for files, tables and problems that cannot be used."""

from collective_variables._errors import UserError


class DataError(UserError, ValueError):
    """A file, a table or a problem cannot be used; the message names it and what to do."""


class MissingFileError(DataError, FileNotFoundError):
    """A file or folder does not exist."""
