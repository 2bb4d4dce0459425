"""Folders of images as cameras, viewers and network drives leave them."""

import numpy as np
import pytest
from PIL import Image

from collective_variables.data._errors import DataError
from collective_variables.data.files import images as image_files
from collective_variables.data.reading import read_file


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat/0.png", "cat/1.png", "dog/0.png"):
        save(tmp_path / "pets" / name, rng.integers(0, 256, (5, 4), dtype=np.uint8))
    return tmp_path / "pets"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_viewers_show_them(orientation, tmp_path):
    stored = np.kron(np.array([[0, 50, 100], [150, 200, 250]], np.uint8), np.ones((8, 8), np.uint8))
    # Row and column 0 of what is seen, by the standard's table of orientations.
    seen = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored[::-1].T,
        7: stored[::-1, ::-1].T,
        8: stored[:, ::-1].T,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for ending in ("png", "jpg", "webp"):
        options = {"quality": 100} | ({"lossless": True} if ending == "webp" else {})
        save(tmp_path / "stored" / f"a.{ending}", stored, exif=exif, **options)
    save(tmp_path / "stored" / "upright.png", seen)
    pixels = read_file(tmp_path / "stored")["image"]
    assert pixels.shape[1:3] == seen.shape
    for image in pixels:
        np.testing.assert_allclose(image[..., 0].astype(int), seen, atol=2)
    sized = read_file(tmp_path / "stored", image_size=(4, 6))["image"]
    assert sized.shape[1:3] == (4, 6)


HIDDEN = [
    ".ipynb_checkpoints/0-checkpoint.png",
    ".thumbnails/0.png",
    ".git/0.png",
    ".Trash-1000/0.png",
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
    "#recycle/0.png",
    "$RECYCLE.BIN/0.png",
    "__MACOSX/._0.png",
    "lost+found/0.png",
    "System Volume Information/0.png",
    ".0.png",
    "._0.png",
]


@pytest.mark.parametrize("place", ["", "cat/"])
@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_folders_and_files_are_not_looked_at(name, place, folder):
    expected = read_file(folder)
    hidden = folder / (place + name)
    hidden.parent.mkdir(parents=True, exist_ok=True)
    hidden.write_bytes(b"no image")
    contents = read_file(folder)
    assert contents["file"].tolist() == expected["file"].tolist()
    np.testing.assert_array_equal(contents["image"], expected["image"])
    assert contents.notes == ()


def test_classes_may_begin_with_the_signs_of_hidden_folders(folder):
    for name in ("@home", "#1", "$5", "_other"):
        save(folder / name / "0.png", np.zeros((5, 4), np.uint8))
    expected = {"cat", "dog", "@home", "#1", "$5", "_other"}
    assert set(read_file(folder)["class"]) == expected


def test_files_that_are_no_images_are_counted(folder):
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "labels.csv").write_bytes(b"x")
    assert read_file(folder).notes == (
        f"1 file is left out of the images of {folder}, which end in "
        f"{', '.join(image_files.ENDINGS)}: labels.csv.",
    )
    for name in ("a.heic", "b.HEIC", "c.raw"):
        (folder / "dog" / name).write_bytes(b"x")
    contents = read_file(folder)
    assert len(contents["file"]) == 3
    assert contents.notes[0].startswith(f"4 files are left out of the images of {folder}")
    assert contents.notes[0].endswith("dog/a.heic, dog/b.HEIC, dog/c.raw and 1 more.")


@pytest.mark.parametrize("transparency", [bytes([0, 128] + [255] * 14), 3])
def test_palettes_with_transparency_are_read(transparency, tmp_path):
    colours = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    palette = Image.fromarray(colours).quantize(16)
    (tmp_path / "p").mkdir()
    palette.save(tmp_path / "p" / "p.png", transparency=transparency)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read_file(tmp_path / "p")["image"][0], expected)


def test_what_a_library_only_warns_of_is_read(tmp_path):
    path = tmp_path / "a" / "a.jpg"
    save(path, np.full((8, 8), 100, np.uint8), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12")
    assert read_file(tmp_path / "a")["image"].shape == (1, 8, 8, 1)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"\x89PNG\r\n\x1a\n", "dog/1.png is broken or not what its ending says"),
        (b"", "dog/1.png is broken or not what its ending says"),
    ],
)
def test_a_broken_image_is_named_with_its_folder(content, message, folder):
    (folder / "dog" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=f"^{message}"):
        read_file(folder)


@pytest.mark.parametrize(
    "array, words",
    [
        (np.zeros((5, 4), np.uint16), "16 or 32 bits for each grey value \\(mode I;16\\)"),
        (np.zeros((5, 4), np.float32), "floating-point numbers for each grey value \\(mode F\\)"),
    ],
)
def test_images_of_more_than_8_bits_are_refused_clearly(array, words, folder):
    save(folder / "dog" / "1.tif", array)
    with pytest.raises(DataError, match=f"dog/1.tif must have 8 bits for each colour: .*{words}"):
        read_file(folder)


def test_images_in_and_next_to_folders_are_named(folder):
    save(folder / "z.png", np.zeros((5, 4), np.uint8))
    with pytest.raises(DataError, match="of their classes, or none: z.png, cat/0.png"):
        read_file(folder)
