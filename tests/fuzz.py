"""Search for files and texts of layers that the readers cannot handle.

    python tests/fuzz.py files|layers [options of libFuzzer]

atheris follows which lines an input reaches, and changes inputs so that they reach more, until it
is stopped or `-max_total_time=SECONDS` is over. An input that fails is written to a file crash-…;
its content makes a case for `data/test_reading_fuzz.py`. This needs `pip install atheris`, which is
not part of the environment because it has builds for few versions of Python.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS / "data")]

with atheris.instrument_imports(include=["collective_variables", "numpy.lib", "zipfile", "PIL"]):
    from collective_variables.data import reading  # noqa: F401 - instrumented before the next import
    from collective_variables.networks import sequential

from test_reading_fuzz import WHOLE, read_or_refused

FOLDER = Path(tempfile.mkdtemp())


def files(data: bytes) -> None:
    """Read a file; the first byte gives its kind, the rest is its content."""
    ending = sorted(WHOLE)[data[0] % len(WHOLE)] if data else "csv"
    (FOLDER / "images" / "class").mkdir(parents=True, exist_ok=True)
    path = FOLDER / ("images/class/a.png" if ending == "png" else f"a.{ending}")
    path.write_bytes(data[1:])
    read_or_refused(FOLDER / "images" if ending == "png" else path)


def layers(data: bytes) -> None:
    """Parse the text of a layer."""
    try:
        parsed = sequential.parse(data.decode(errors="replace"))
    except ValueError:
        return
    assert parsed.kind in ("dense", "conv", "avgpool") and all(
        number > 0 for number in (*parsed.window, *parsed.strides)
    )


def main() -> None:
    target = {"files": files, "layers": layers}[sys.argv[1]]
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, ending in enumerate(sorted(WHOLE)):
        (corpus / ending).write_bytes(bytes([number]) + WHOLE[ending])
    for number, text in enumerate(("dense 32", "conv 32 3x3 stride 2", "avgpool 4x4 stride 2")):
        (corpus / f"layer-{number}").write_bytes(text.encode())
    warnings.simplefilter("error")
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
