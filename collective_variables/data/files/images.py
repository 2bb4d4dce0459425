"""Read the images of a folder."""

import re
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from collective_variables import _extras, _memory
from collective_variables.data._errors import DataError
from collective_variables.data.files.contents import Column, Parts, one_line_errors

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
MAX_PIXELS = 2**26  # of one image
MAX_PIXELS_UNASKED = 2**20  # of one image without --image-size: networks are slow with more
MAX_STRETCH = 1.25  # ratio between the proportions of images that needs no note
# Files and folders of systems and programs: hidden ones, and thumbnails and recycle bins of
# network drives, Windows and macOS.
HIDDEN = re.compile(
    r"\.|~\$|@(eaDir|tmp|S2S|sharebin|Syno\w+|Recycle|Recently-Snapshot|Snapshots?|__thumb)$|"
    r"(#recycle|#snapshot|\$RECYCLE\.BIN|RECYCLER|System Volume Information|lost\+found|__MACOSX|"
    r"__pycache__|Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r)$",
    re.IGNORECASE,
)
ADVISED_SIDE = 64  # pixels of the longer side that a message suggests
MAX_NAMED = 3  # files that a note names


class Picture(NamedTuple):
    """An image as (height, width, 1 or 3) uint8, and the properties of its file for notes."""

    pixels: np.ndarray
    proportions: float  # width / height before resizing
    is_transparent: bool
    has_frames: bool


class Found(NamedTuple):
    """Paths of the images below a folder, and the other files and links to folders there."""

    paths: list[Path]
    others: list[str]
    links: list[str]


def read_images(folder: Path, size: tuple[int, int] | None) -> Parts:
    """Return all images below a folder in the order of their paths, with paths and classes.

    The class of an image is the first folder on the way to it; an image in no folder has none.
    Hidden files and folders are skipped.

    Raises:
        DataError: The size has too many pixels, or an image cannot be used.
    """
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise DataError(
            f"--image-size must ask for at most {MAX_PIXELS} pixels: "
            f"received {size[0]} x {size[1]}."
        )
    found = _find(folder)
    files = [path.relative_to(folder).as_posix() for path in found.paths]
    pictures = _read_all(folder, found.paths, files, size)
    images = [picture.pixels for picture in pictures]
    if len({image.shape[2] for image in images}) > 1:
        # Grey images among coloured ones become coloured.
        images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    columns = {
        "image": Column(np.stack(images)),
        "file": Column(np.array(files, dtype=object)),
    }
    classes = [file.split("/")[0] if "/" in file else None for file in files]
    if any(name is not None for name in classes):
        columns["class"] = Column(np.array(classes, dtype=object))
    notes = [
        *_left_out(folder, found),
        *_notes_on_folders(folder, files),
        *_notes_on_pictures(files, pictures),
    ]
    return Parts(columns, notes=tuple(notes))


def _find(folder: Path) -> Found:
    """Return what is below a folder and not hidden; links to folders are not followed.

    Raises:
        DataError: There is no image, or an image is a link to a place outside the folder or has a
            name that cannot be printed.
    """
    found = Found([], [], [])
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder)
        if any(HIDDEN.match(part) for part in file.parts):
            continue
        if path.is_dir():
            if path.is_symlink():
                found.links.append(_shown(file.as_posix()))
        elif path.suffix.lower() in ENDINGS:
            found.paths.append(path)
        else:
            found.others.append(_shown(file.as_posix()))
    if not found.paths:
        raise DataError(_no_images(folder, found))
    inside = folder.resolve()
    for path in found.paths:
        if _shown(path.name) != path.name:
            # The name could not be printed on a line, or not at all.
            raise DataError(
                f"{_shown(path.name)} in {folder} must have a name in UTF-8 and without line "
                "breaks: rename it."
            )
        if not path.resolve().is_relative_to(inside):
            raise DataError(f"{path} is a link out of {folder}: put a copy of the image there.")
    return found


def _shown(name: str) -> str:
    """Return the name of a file, with escapes if it has characters that cannot be printed."""
    is_printed = all(unicodedata.category(sign) not in ("Cc", "Cs") for sign in name)
    return name if is_printed else ascii(name)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _no_images(folder: Path, found: Found) -> str:
    text = f"{folder} must hold images ({', '.join(ENDINGS)}): it holds "
    if found.links:
        return (
            f"{text}only links to folders, which are not followed, {_some(found.links)}. "
            "Name the folder where the images are."
        )
    if found.others:
        return f"{text}none, but {_some(found.others)}. Save the images as .jpg or .png."
    return f"{text}none."


def _left_out(folder: Path, found: Found) -> list[str]:
    """Return notes on files that are not images, and on links to folders."""
    notes = []
    if others := found.others:
        files = "1 file is" if len(others) == 1 else f"{len(others)} files are"
        notes.append(
            f"{files} left out of the images of {folder}, which end in {', '.join(ENDINGS)}: "
            f"{_some(others)}."
        )
    if found.links:
        notes.append(
            f"Links to folders in {folder} are not followed: {_some(found.links)}. "
            "Put copies of their images there."
        )
    return notes


def _notes_on_folders(folder: Path, files: Sequence[str]) -> list[str]:
    """Return notes on images whose class may surprise the user."""
    notes = []
    outside = [file for file in files if "/" not in file]
    if 0 < len(outside) < len(files):
        notes.append(
            f"{len(outside)} of {len(files)} images have no class, as they are in no folder of "
            f"{folder}: {_some(outside)}."
        )
    deep = sorted({file.rsplit("/", 1)[0] for file in files if file.count("/") > 1})
    if deep:
        first = sorted({name.split("/")[0] for name in deep})
        notes.append(
            f"The class of an image is the first folder on the way to it, {_some(first)}, and not "
            f"a folder below, {_some(deep)}."
        )
    return notes


def _notes_on_pictures(files: Sequence[str], pictures: Sequence[Picture]) -> list[str]:
    """Return notes on parts of images that were left out or changed."""
    notes = []
    transparent = [f for f, picture in zip(files, pictures, strict=True) if picture.is_transparent]
    if transparent:
        notes.append(
            f"Transparent parts are read as white, in {len(transparent)} of {len(files)} images: "
            f"{_some(transparent)}."
        )
    several = [file for file, picture in zip(files, pictures, strict=True) if picture.has_frames]
    if several:
        notes.append(
            f"Only the first frame or page is read, in {len(several)} of {len(files)} images: "
            f"{_some(several)}."
        )
    narrow, wide = (pick(picture.proportions for picture in pictures) for pick in (min, max))
    if wide > MAX_STRETCH * narrow:
        height, width = pictures[0].pixels.shape[:2]
        notes.append(
            f"Width / height is {narrow:.2f} to {wide:.2f}: --image-size stretches or squeezes all "
            f"images to {width / height:.2f}."
        )
    return notes


def _read_all(
    folder: Path, paths: Sequence[Path], files: Sequence[str], size: tuple[int, int] | None
) -> list[Picture]:
    """Return the images, all of the same size; an error counts those that cannot be used."""
    pictures, n_bytes = [], 0
    errors: dict[str, str] = {}
    for path, file in zip(paths, files, strict=True):
        try:
            picture = _read_image(path, file, size)
        except DataError as error:
            errors[file] = str(error)
            continue
        if errors:  # the rest is read only to find all that cannot be used
            continue
        pictures.append(picture)
        n_bytes += picture.pixels.nbytes
        first, last = pictures[0].pixels.shape[:2], picture.pixels.shape[:2]
        if last != first:
            raise DataError(
                f"The images of {folder} must have one size, or one must be asked for: {files[0]} "
                f"has {first[0]} x {first[1]} pixels, {file} {last[0]} x {last[1]} (height x "
                f"width). {_advice(*first)}"
            )
        _memory.check(f"The images of {folder}, which --image-size can make smaller,", n_bytes)
    if errors:
        text, *_ = errors.values()
        if not text.endswith("."):  # the message of a library, which gives no advice
            text += f". Copy the image anew, or move it out of {folder}."
        if more := list(errors)[1:]:
            text += f" {len(more)} more cannot be used: {_some(more)}."
        raise DataError(text)
    return pictures


def _read_image(path: Path, file: str, size: tuple[int, int] | None) -> Picture:
    """Return an image as viewers turn it and show it on white; errors name `file`."""
    with _extras.required("cli"):
        from PIL import Image, ImageOps

    # Pillow warns about metadata that it cannot read, but reads the image.
    quiet = warnings.catch_warnings(action="ignore", category=UserWarning)
    with one_line_errors(file), quiet, _open(path, file) as image:
        _check(image, file, size)
        # The second picture of a camera's MPO is a preview or a map of brightness.
        has_frames = image.format != "MPO" and getattr(image, "is_animated", False)
        turned = ImageOps.exif_transpose(image)
        shown, is_transparent = _on_white(turned)
        converted = shown.convert("L" if turned.mode in ("1", "L", "LA", "La") else "RGB")
        if size is not None:
            converted = converted.resize(size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(converted).reshape(converted.height, converted.width, -1)
        return Picture(pixels, turned.width / turned.height, is_transparent, has_frames)


def _open(path: Path, file: str) -> "Image.Image":
    from PIL import Image

    try:
        return Image.open(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # Pillow's own limit is larger.
        raise DataError(_too_large(file, "more")) from None


def _check(image: "Image.Image", file: str, size: tuple[int, int] | None) -> None:
    """Raise DataError for an image that is too large or has more than 8 bits per colour."""
    n_pixels = image.width * image.height
    if n_pixels > MAX_PIXELS:
        raise DataError(_too_large(file, f"{image.width} x {image.height}"))
    if size is None and n_pixels > MAX_PIXELS_UNASKED:
        raise DataError(
            f"{file} must have at most {MAX_PIXELS_UNASKED} pixels, or a size must be asked for: "
            f"it has {image.height} x {image.width} (height x width). "
            f"{_advice(image.height, image.width)}"
        )
    if image.mode.startswith(("I", "F")):
        bits = "16 or 32 bits" if image.mode.startswith("I") else "floating-point numbers"
        raise DataError(
            f"{file} must have 8 bits for each colour: it has {bits} for each grey value "
            f"(mode {image.mode}). Convert it, or save all images as an array in an .npz file."
        )


def _too_large(file: str, received: str) -> str:
    return (
        f"{file} must have at most {MAX_PIXELS} pixels: it has {received}. "
        "Put a smaller copy in its place."
    )


def _advice(height: int, width: int) -> str:
    """Return the advice to choose a size with these proportions."""
    share = min(1, ADVISED_SIDE / max(height, width))
    size = "x".join(str(max(1, round(share * side))) for side in (height, width))
    return f"Add --image-size {size}, or another size."


def _on_white(image: "Image.Image") -> tuple["Image.Image", bool]:
    """Return an image as it looks on white, and whether parts of it are transparent."""
    # The colours of transparent parts are invisible and can be anything.
    from PIL import Image

    if not image.has_transparency_data:
        return image, False
    with_alpha = image.convert("RGBA")
    least, _ = with_alpha.getextrema()[3]
    if least == 255:
        return image, False
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(with_alpha)
    return white, True
