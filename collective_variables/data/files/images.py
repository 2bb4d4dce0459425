"""Read the images of a folder."""

import re
import warnings
from pathlib import Path

import numpy as np

from collective_variables import _extras, _memory
from collective_variables.data._errors import DataError
from collective_variables.data.files.contents import Column, Parts, one_line_errors

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
MAX_PIXELS = 2**26  # of one image
# Folders and files of systems and programs: hidden ones; thumbnails and recycle bins of network
# drives, of Windows and of macOS.
HIDDEN = re.compile(
    r"\.|~\$|@(eaDir|tmp|S2S|sharebin|Syno\w+|Recycle|Recently-Snapshot|Snapshots?|__thumb)$|"
    r"(#recycle|#snapshot|\$RECYCLE\.BIN|RECYCLER|System Volume Information|lost\+found|__MACOSX|"
    r"__pycache__|Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r)$",
    re.IGNORECASE,
)
MAX_NAMED = 3  # files that a note names


def read_images(folder: Path, size: tuple[int, int] | None) -> Parts:
    """Read every image below a folder, in the order of their paths.

    Where the images are in folders, the first folder on the way to each is its class. Hidden
    folders and files are not looked at.
    """
    paths, others = _paths(folder)
    files = [path.relative_to(folder).as_posix() for path in paths]
    has_classes = _has_classes(folder, files)
    images, n_bytes = [], 0
    for path, file in zip(paths, files, strict=True):
        images.append(_read_image(path, file, size))
        n_bytes += images[-1].nbytes
        if images[-1].shape[:2] != images[0].shape[:2]:
            raise DataError(
                f"The images of {folder} must have one size, or one must be asked for: "
                f"{files[0]} has {_pixels(images[0])} pixels, {file} {_pixels(images[-1])}."
            )
        _memory.check(f"The images of {folder}", n_bytes)
    if len({image.shape[2] for image in images}) > 1:
        # Grey images among coloured ones become coloured.
        images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    columns = {
        "image": Column(np.stack(images)),
        "file": Column(np.array(files, dtype=object)),
    }
    if has_classes:
        columns["class"] = Column(np.array([file.split("/")[0] for file in files], dtype=object))
    return Parts(columns, notes=tuple(_left_out(folder, others)))


def _paths(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the images below a folder, and the other files, neither of which are hidden.

    None of the images may be a link to somewhere else.
    """
    paths, others = [], []
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder)
        if any(HIDDEN.match(part) for part in file.parts) or path.is_dir():
            continue
        if path.suffix.lower() in ENDINGS:
            paths.append(path)
        else:
            others.append(file.as_posix())
    if not paths:
        raise DataError(f"{folder} must hold images ({', '.join(ENDINGS)}): it holds none.")
    inside = folder.resolve()
    for path in paths:
        if not path.resolve().is_relative_to(inside):
            raise DataError(f"{path} leads out of {folder}: put a copy of the image there.")
    return paths, others


def _left_out(folder: Path, others: list[str]) -> list[str]:
    """Return a note on the files that are no images."""
    if not others:
        return []
    shown = ", ".join(others[:MAX_NAMED])
    more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
    files = "1 file is" if len(others) == 1 else f"{len(others)} files are"
    return [
        f"{files} left out of the images of {folder}, which end in {', '.join(ENDINGS)}: "
        f"{shown}{more}."
    ]


def _has_classes(folder: Path, files: list[str]) -> bool:
    """Return whether the images are in folders of their classes."""
    in_folders = {"/" in file for file in files}
    if len(in_folders) > 1:
        outside = next(file for file in files if "/" not in file)
        inside = next(file for file in files if "/" in file)
        raise DataError(
            f"The images of {folder} must all be in folders of their classes, or none: "
            f"{outside}, {inside}."
        )
    return in_folders == {True}


def _read_image(path: Path, file: str, size: tuple[int, int] | None) -> np.ndarray:
    """Return an image as (height, width, 1 or 3) uint8, as viewers turn it.

    It is grey or coloured; its transparency is left out. Errors name `file`.
    """
    with _extras.required("cli"):
        from PIL import Image, ImageOps

    # Pillow warns of metadata that it cannot read, and reads the image.
    quiet = warnings.catch_warnings(action="ignore", category=UserWarning)
    with one_line_errors(file), quiet, Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(
                f"{file} must have at most {MAX_PIXELS} pixels: "
                f"it has {image.width} x {image.height}."
            )
        if image.mode.startswith(("I", "F")):
            bits = "16 or 32 bits" if image.mode.startswith("I") else "floating-point numbers"
            raise DataError(
                f"{file} must have 8 bits for each colour: it has {bits} for each grey value "
                f"(mode {image.mode}). Convert it, or save all images as an array in an .npz file."
            )
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        turned = ImageOps.exif_transpose(image)
        converted = turned.convert("L" if turned.mode in ("1", "L", "LA", "La") else "RGB")
        if size is not None:
            converted = converted.resize(size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(converted).reshape(converted.height, converted.width, -1)


def _pixels(image: np.ndarray) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"
