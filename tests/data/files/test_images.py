"""Folders of images as cameras, viewers and network drives leave them."""

from pathlib import Path

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
    alphas = np.full(16, 255)
    if isinstance(transparency, bytes):
        alphas[: len(transparency)] = list(transparency)
    else:
        alphas[transparency] = 0
    share = alphas[np.asarray(palette)][..., None] / 255
    expected = share * np.asarray(palette.convert("RGB")) + (1 - share) * 255
    contents = read_file(tmp_path / "p")
    np.testing.assert_allclose(contents["image"][0], expected, atol=1)
    assert contents.notes == ("Transparent parts are read as white, in 1 of 1 images: p.png.",)


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


def test_images_next_to_folders_of_classes_have_none(folder):
    save(folder / "z.png", np.zeros((5, 4), np.uint8))
    contents = read_file(folder)
    assert contents["file"].tolist() == ["cat/0.png", "cat/1.png", "dog/0.png", "z.png"]
    assert contents["class"].tolist() == ["cat", "cat", "dog", None]
    assert contents.notes == (
        f"1 of 4 images have no class, as they are in no folder of {folder}: z.png.",
    )


def test_folders_below_those_of_classes_are_told(folder):
    save(folder / "cat" / "night" / "0.png", np.zeros((5, 4), np.uint8))
    contents = read_file(folder)
    assert contents["class"].tolist() == ["cat", "cat", "cat", "dog"]
    assert contents.notes == (
        "The class of an image is the first folder on the way to it, cat, and not a folder below, "
        "cat/night.",
    )


@pytest.mark.parametrize("mode, n_channels", [("RGBA", 3), ("LA", 1)])
def test_colours_that_transparency_hides_are_not_read(mode, n_channels, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 4, 5, n_channels + 1), dtype=np.uint8)
    pixels[..., -1] = 0
    pixels[:, 1:3, 1:3] = [[[50] * n_channels + [255]] * 2] * 2
    for number, array in enumerate(pixels):
        save(tmp_path / "cut" / f"{number}.png", array)
    expected = np.full((2, 4, 5, n_channels), 255)
    expected[:, 1:3, 1:3] = 50
    np.testing.assert_array_equal(read_file(tmp_path / "cut")["image"], expected)


def test_opaque_alpha_changes_nothing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    save(tmp_path / "opaque" / "a.png", pixels)
    contents = read_file(tmp_path / "opaque")
    np.testing.assert_array_equal(contents["image"][0], pixels[..., :3])
    assert contents.notes == ()


@pytest.mark.parametrize("ending", ["gif", "tif", "webp"])
def test_frames_after_the_first_are_told(ending, tmp_path):
    frames = [Image.fromarray(np.full((8, 8), grey, np.uint8)) for grey in (10, 90, 200)]
    options = {"lossless": True} if ending == "webp" else {}
    path = tmp_path / "several" / f"a.{ending}"
    path.parent.mkdir()
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    contents = read_file(path.parent)
    np.testing.assert_array_equal(contents["image"], np.full(contents["image"].shape, 10))
    assert contents.notes == (
        f"Only the first frame or page is read, in 1 of 1 images: a.{ending}.",
    )


def test_the_second_picture_of_a_camera_is_no_frame(tmp_path):
    photo = Image.fromarray(np.full((8, 8, 3), 10, np.uint8))
    (tmp_path / "phone").mkdir()
    photo.save(tmp_path / "phone" / "a.jpg", format="MPO", save_all=True, append_images=[photo])
    assert read_file(tmp_path / "phone").notes == ()


def test_images_that_were_upright_and_lying_are_told_to_be_stretched(tmp_path):
    for name, shape in (("upright", (12, 8)), ("lying", (8, 12))):
        save(tmp_path / "mixed" / f"{name}.png", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"8 x 12 pixels, upright.png 12 x 8 .*--image-size 8x12,"):
        read_file(tmp_path / "mixed")
    assert read_file(tmp_path / "mixed", image_size=(4, 8)).notes == (
        "Width / height is 0.67 to 1.50: --image-size stretches or squeezes all images to 2.00.",
    )


def test_all_images_that_cannot_be_read_are_named(folder):
    for name in ("a.png", "b.png", "c.png"):
        (folder / "dog" / name).write_bytes(b"<html>")
    save(folder / "dog" / "d.png", np.zeros((5, 4), np.uint16))
    message = (
        r"^dog/a.png is broken .*\. Copy the image anew, or move it out of .*pets\. "
        r"3 more cannot be used: dog/b.png, dog/c.png, dog/d.png\.$"
    )
    with pytest.raises(DataError, match=message):
        read_file(folder)


@pytest.mark.parametrize("side", [10_000, 14_000])
def test_a_huge_image_is_said_to_be_too_large(side, folder):
    # Pillow only warns of the first, and refuses the second.
    Image.new("1", (side, side)).save(folder / "dog" / "1.png")
    with pytest.raises(
        DataError, match="^dog/1.png must have at most 67108864 pixels: it has more"
    ):
        read_file(folder, image_size=(5, 4))


def test_photos_as_cameras_make_them_need_a_size(tmp_path):
    save(tmp_path / "photos" / "a.png", np.zeros((1000, 1500), np.uint8))
    message = r"it has 1000 x 1500 \(height x width\)\. Add --image-size 43x64, or another size\.$"
    with pytest.raises(DataError, match=message):
        read_file(tmp_path / "photos")
    assert read_file(tmp_path / "photos", image_size=(43, 64))["image"].shape == (1, 43, 64, 1)
    with pytest.raises(DataError, match="--image-size must ask for at most 67108864 pixels"):
        read_file(tmp_path / "photos", image_size=(100_000, 100_000))


def test_a_folder_without_images_says_what_is_there(folder):
    other = folder.parent / "other"
    other.mkdir()
    with pytest.raises(DataError, match="it holds none.$"):
        read_file(other)
    for name in ("a.heic", "b.HEIC", "c.CR2", "d.nef"):
        (other / name).write_bytes(b"x")
    message = "none, but a.heic, b.HEIC, c.CR2 and 1 more. Save the images as .jpg or .png.$"
    with pytest.raises(DataError, match=message):
        read_file(other)
    (other / "pets").symlink_to(folder, target_is_directory=True)
    with pytest.raises(DataError, match="only links to folders, which are not followed, pets"):
        read_file(other)


def test_links_to_folders_are_told_and_not_followed(folder):
    (folder / "dog" / "loop").symlink_to(folder, target_is_directory=True)
    contents = read_file(folder)
    assert contents["file"].tolist() == ["cat/0.png", "cat/1.png", "dog/0.png"]
    assert contents.notes == (
        f"Links to folders in {folder} are not followed: dog/loop. Put copies of their images "
        "there.",
    )


@pytest.mark.parametrize("name", ["K\udce4fer.png", "a\nb.png"])
def test_names_that_cannot_be_printed_on_a_line_are_refused(name, folder, monkeypatch):
    # Not every file system can have such a file.
    paths = [folder / "cat" / "0.png", folder / name]
    monkeypatch.setattr(Path, "rglob", lambda path, pattern: iter(paths))
    with pytest.raises(DataError, match="must have a name in UTF-8 and without line breaks"):
        read_file(folder)


def test_an_archive_and_a_single_image_come_with_advice(folder):
    archive = folder.parent / "pets.zip"
    archive.write_bytes(b"PK")
    with pytest.raises(DataError, match="pets.zip must .* received .zip. Unpack it"):
        read_file(archive)
    with pytest.raises(DataError, match="0.png must .* Name the folder where the images are."):
        read_file(folder / "cat" / "0.png")
