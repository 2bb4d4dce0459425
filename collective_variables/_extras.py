"""Import optional packages, or say which extra to install."""

from collections.abc import Generator
from contextlib import contextmanager

PROJECT = "collective-variables"
# Packages whose name on the index differs from the name that is imported.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "neural_tangents": "neural-tangents",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


class MissingPackageError(ImportError):
    """An optional package cannot be imported; the message says what to install."""


@contextmanager
def required(extra: str) -> Generator[None]:
    """Turn an import error inside the block into one error that names `extra`.

        with _extras.required("cli"):
            import pyarrow

    Args:
        extra: Name of the extra, as in pyproject.toml.

    Yields:
        Nothing.

    Raises:
        ImportError: The failed import is one of this package; the error is passed on.
        MissingPackageError: Another package cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package == __name__.partition(".")[0]:
            raise
        name = DISTRIBUTIONS.get(package, package or "a package")
        is_missing = isinstance(error, ModuleNotFoundError)
        reason = "is not installed" if is_missing else f"cannot be imported ({error})"
        raise MissingPackageError(
            f'This requires {name}, which {reason}: pip install "{PROJECT}[{extra}]"',
            name=error.name,
        ) from None
