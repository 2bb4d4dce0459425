"""Read the images of a folder."""

from pathlib import Path

import numpy as np

from collective_variables import _extras, _memory
from collective_variables.data._errors import DataError
from collective_variables.data.files.contents import one_line_errors

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
MAX_PIXELS = 2**26  # of one image


def read_images(folder: Path, size: tuple[int, int] | None) -> dict[str, np.ndarray]:
    """Read every image below a folder, in the order of their paths.

    Where the images are in folders, the first folder on the way to each is its class.
    """
    paths = _paths(folder)
    files = [path.relative_to(folder) for path in paths]
    has_classes = _has_classes(folder, files)
    images, n_bytes = [], 0
    for path in paths:
        images.append(_read_image(path, size))
        n_bytes += images[-1].nbytes
        if images[-1].shape[:2] != images[0].shape[:2]:
            raise DataError(
                f"The images of {folder} must have one size, or one must be asked for: "
                f"{files[0]} has {_pixels(images[0])} pixels, "
                f"{path.relative_to(folder)} {_pixels(images[-1])}."
            )
        _memory.check(f"The images of {folder}", n_bytes)
    if len({image.shape[2] for image in images}) > 1:
        # Grey images among coloured ones become coloured.
        images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    contents = {
        "image": np.stack(images),
        "file": np.array([file.as_posix() for file in files], dtype=object),
    }
    if has_classes:
        contents["class"] = np.array([file.parts[0] for file in files], dtype=object)
    return contents


def _paths(folder: Path) -> list[Path]:
    """Return the images below a folder, none of which may be a link to somewhere else."""
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    )
    if not paths:
        raise DataError(f"{folder} must hold images ({', '.join(ENDINGS)}): it holds none.")
    inside = folder.resolve()
    for path in paths:
        if not path.resolve().is_relative_to(inside):
            raise DataError(f"{path} leads out of {folder}: put a copy of the image there.")
    return paths


def _has_classes(folder: Path, files: list[Path]) -> bool:
    """Return whether the images are in folders of their classes."""
    in_folders = {len(file.parts) > 1 for file in files}
    if len(in_folders) > 1:
        raise DataError(
            f"The images of {folder} must all be in folders of their classes, or none: "
            f"{files[0]}, {files[-1]}."
        )
    return in_folders == {True}


def _read_image(path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """Return an image as (height, width, 1 or 3) uint8, grey or coloured, without transparency."""
    with _extras.required("cli"):
        from PIL import Image

    with one_line_errors(path), Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(
                f"{path.name} must have at most {MAX_PIXELS} pixels: "
                f"it has {image.width} x {image.height}."
            )
        if image.mode.startswith(("I", "F")):
            raise DataError(
                f"{path.name} must have 8 bits for each colour: received the mode {image.mode}."
            )
        converted = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        if size is not None:
            converted = converted.resize(size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(converted).reshape(converted.height, converted.width, -1)


def _pixels(image: np.ndarray) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"
