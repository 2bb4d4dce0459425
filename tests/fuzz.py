"""Search for files and texts of layers that the readers can't cope with: python tests/fuzz.py
files|layers [options of libFuzzer]

atheris follows which lines an input reaches and changes inputs so that they reach more, for ever or
for so long as `-max_total_time=SECONDS` says. What is found is written to a file crash-…, whose
content makes a case for `test_own_files_fuzz.py`. Needs `pip install atheris`, which is not part of
the environment (it has builds for few Pythons).
"""

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

with atheris.instrument_imports(include=["collective_variables", "numpy.lib", "zipfile", "PIL"]):
    from collective_variables.networks import sequential  # noqa: F401 - instrumented for test_own_files_fuzz

from test_own_files_fuzz import WHOLE, read_or_refused

from collective_variables.networks import sequential

FOLDER = Path(tempfile.mkdtemp())


def files(data: bytes) -> None:
    """The first byte says the kind of file, the rest is its content."""
    ending = sorted(WHOLE)[data[0] % len(WHOLE)] if data else "csv"
    (FOLDER / "images" / "class").mkdir(parents=True, exist_ok=True)
    path = FOLDER / ("images/class/a.png" if ending == "png" else f"a.{ending}")
    path.write_bytes(data[1:])
    read_or_refused(FOLDER / "images" if ending == "png" else path)


def layers(data: bytes) -> None:
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
