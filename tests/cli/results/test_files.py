"""Files that are written: looked at first, whole or not at all, never over one that is read."""

import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from collective_variables._errors import WriteError
from collective_variables.cli.results import files
from collective_variables.data._errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*paths, read=()):
    outputs = {f"--{number}": Path(path) for number, path in enumerate(paths)}
    files.check(outputs, [("the file that is read", Path(path)) for path in read])


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("link", [False, True])
def test_a_file_is_written_through_a_link_and_whole_or_not_at_all(before, link, folder):
    if before is not None:
        Path("a.csv").write_text(before)
        os.chmod("a.csv", 0o640)
    path = Path("link.csv" if link else "a.csv")
    if link:
        path.symlink_to("a.csv")
    check(path)
    with pytest.raises(UnicodeEncodeError):
        files.write(path, "not written \ud800")
    assert Path("a.csv").exists() == (before is not None)
    files.write(path, "new")
    assert Path("a.csv").read_text() == "new" and path.is_symlink() == link
    if before is not None:
        assert stat.S_IMODE(os.stat("a.csv").st_mode) == 0o640
    assert sorted(os.listdir()) == ["a.csv", "link.csv"][: 1 + link]


def test_a_long_name_is_written(folder):
    check("a" * 250)
    files.write(Path("a" * 250), "new")
    assert Path("a" * 250).read_text() == "new"


def test_a_file_in_a_closed_folder_is_written_in_place(folder, monkeypatch):
    Path("a.csv").write_text("old")
    place = os.stat("a.csv").st_ino
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_file())
    check("a.csv")
    files.write(Path("a.csv"), "new")
    assert Path("a.csv").read_text() == "new" and os.stat("a.csv").st_ino == place


def test_a_pipe_is_written_to_and_stays(folder):
    os.mkfifo("pipe")
    with ThreadPoolExecutor(1) as reader:
        received = reader.submit(Path("pipe").read_text)
        check("pipe")
        files.write(Path("pipe"), "rows")
        assert received.result() == "rows"
    assert Path("pipe").is_fifo()


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_a_device_stays_a_device(device, folder):
    check(device, device)
    if device == "/dev/full":
        with pytest.raises(OSError, match="No space left"):
            files.write(Path(device), "rows")
    else:
        files.write(Path(device), "rows")
    assert Path(device).is_char_device()


def test_a_stream_of_the_process_is_appended_to(folder):
    with open("log.txt", "w") as log:
        log.write("before\n")
        log.flush()
        path = Path(f"/dev/fd/{log.fileno()}")
        check(path)
        files.write(path, "rows\n")
    assert Path("log.txt").read_text() == "before\nrows\n" and os.listdir() == ["log.txt"]


def refused(message, *paths, **options):
    with pytest.raises(DataError) as caught:
        check(*paths, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_be_written_is_refused_by_name(folder):
    Path("file").write_text("")
    Path("dangling").symlink_to("no/target.csv")
    Path("loop").symlink_to("loop")
    Path("folder").mkdir()
    Path("to-folder").symlink_to("folder")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    for path, message in {
        "no/a.csv": "no/a.csv cannot be written: there is no folder",
        "dangling": "dangling cannot be written: there is no folder",
        "folder": "The file to write must not be a folder: received folder",
        "to-folder": "The file to write must not be a folder: received to-folder",
        "file/a.csv": "file/a.csv cannot be written: Not a directory",
        "loop": "loop cannot be written: Too many levels of symbolic links",
        "a" * 256: "cannot be written: File name too long",
        "socket": "socket cannot be written: it is neither a file, a pipe nor a stream",
        "/dev/nothing": "/dev/nothing cannot be written",
        "/proc/nothing": "/proc/nothing cannot be written",
    }.items():
        refused(message, path)


def test_a_folder_or_file_without_permission_is_refused(folder, monkeypatch):
    Path("a.csv").write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused("a.csv cannot be written: permission denied", "a.csv")
    refused("b.csv cannot be written: permission denied in", "b.csv")


def test_two_outputs_are_two_files(folder):
    Path("link").symlink_to("a.csv")
    os.mkdir("folder")
    for other in ("a.csv", "./a.csv", "folder/../a.csv", "link"):
        refused(f"--0 and --1 must be two files: received {Path(other)}", "a.csv", other)
    Path("a.csv").write_text("")
    os.link("a.csv", "b.csv")
    refused("--0 and --1 must be two files: received b.csv", "a.csv", "b.csv")
    check("a.csv", "c.csv")


def test_a_file_that_is_read_is_never_written(folder):
    Path("a.csv").write_text("rows")
    Path("link").symlink_to("a.csv")
    os.link("a.csv", "hard")
    for path in ("a.csv", "./a.csv", "link", "hard"):
        message = f"--0 would overwrite the file that is read, {Path(path)}: choose another file."
        refused(message, path, read=["a.csv"])
    check("b.csv", read=["a.csv", "no.csv"])
    os.makedirs("photos/cat")
    refused("--0 would overwrite the file that is read", "photos/cat/1.png", read=["photos"])
    check("photos/chosen.csv", read=["photos"])
    check("1.png", read=["photos"])


def test_everything_that_can_be_printed_or_written_is(folder, capsys):
    def broken():
        raise RuntimeError("no page")

    outputs = {Path("page.html"): broken, Path("runs.csv"): lambda: "runs"}
    with pytest.raises(RuntimeError, match="no page"):
        files.emit(files.Result("", {}, outputs), "table")
    assert capsys.readouterr().out == "table\n" and Path("runs.csv").read_text() == "runs"
    outputs = {Path("/dev/full"): lambda: "runs", Path("page.html"): lambda: "page"}
    with pytest.raises(WriteError) as caught:
        files.emit(files.Result("", {}, outputs), "table")
    assert str(caught.value) == "/dev/full cannot be written: No space left on device."
    assert capsys.readouterr().out == "table\n" and Path("page.html").read_text() == "page"


def test_a_table_beyond_ascii_has_the_mark_that_spreadsheets_need(folder):
    files.write(Path("a.csv"), "town\nKöln\n")
    assert Path("a.csv").read_bytes() == b"\xef\xbb\xbftown\nK\xc3\xb6ln\n"
    files.write(Path("b.csv"), "town\nUlm\n")
    assert Path("b.csv").read_bytes() == b"town\nUlm\n"
    files.write(Path("c.html"), "Köln")
    assert Path("c.html").read_bytes() == "Köln".encode()
