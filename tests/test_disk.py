"""Files are opened only if they have an end, and replaced whole or not at all."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from children import run_well

import pycnn
from pycnn._disk import check_target, open_regular, write_files


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def writing(content):
    return lambda stream: stream.write(content)


# --- Reading -------------------------------------------------------------------------------


def test_a_regular_file_is_opened_also_through_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as stream:
            assert stream.read() == b"content"


def test_what_has_no_end_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", os.devnull):
        with pytest.raises(OSError, match="not a regular file") as caught:
            open_regular(path)
        assert caught.value.filename == str(path)


def test_what_the_system_refuses_is_told_as_it_is(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(OSError, match="symbolic link"):
        open_regular(tmp_path / "loop")


# --- Where to write ------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_a_plain_open(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_files({tmp_path / "new": writing(b"1")})
        with open(tmp_path / "plain", "wb"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_file_that_is_there_keeps_its_permissions(tmp_path, mode):
    target = tmp_path / "old"
    target.write_bytes(b"a longer old content")
    target.chmod(mode)

    def write(stream):
        # Not even for a moment may others read what they could not.
        assert stat.S_IMODE(os.fstat(stream.fileno()).st_mode) == mode
        stream.write(b"new")

    write_files({target: write})
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_link_keeps_pointing_to_its_file(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/file")
    for content in (b"1", b"2"):  # where there is no file yet, and where there is one
        write_files({tmp_path / "link": writing(content)})
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "elsewhere" / "file").read_bytes() == content
    assert listing(tmp_path / "elsewhere") == ["file"]


def test_only_regular_files_are_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "null", "loop"):
        with pytest.raises(OSError, match="not a regular file"):
            write_files({tmp_path / name: writing(b"1")})
    with pytest.raises(IsADirectoryError):
        write_files({tmp_path / "folder": writing(b"1")})
    assert listing(tmp_path) == ["folder", "loop", "null", "pipe"]
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_protected_file_is_not_replaced(tmp_path, monkeypatch):
    target = tmp_path / "kept"
    target.write_bytes(b"old")
    target.chmod(0o444)
    # A super-user may write anywhere, so the tests may be allowed to.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(PermissionError, match="kept"):
        check_target(target)
    with pytest.raises(PermissionError, match="kept"):
        write_files({target: writing(b"new")})
    assert target.read_bytes() == b"old"


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    for path, kind in {
        tmp_path / "missing" / "file": FileNotFoundError,
        tmp_path / ("x" * 300): OSError,
    }.items():
        with pytest.raises(kind) as caught:
            write_files({path: writing(b"1")})
        assert caught.value.filename == str(path)


# --- Whole or not at all -------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt(), ValueError()],
    ids=repr,
)
@pytest.mark.parametrize("moment", ["write", "fsync", "chmod", "replace"])
def test_an_interrupted_write_leaves_everything_as_it_was(tmp_path, monkeypatch, error, moment):
    for name in ("first", "second"):
        (tmp_path / name).write_bytes(b"old")

    def fail(*args):
        raise error

    writers = {tmp_path / name: writing(b"new" * 10_000) for name in ("first", "second")}
    if moment == "write":
        writers[tmp_path / "second"] = fail
    else:
        monkeypatch.setattr(os, moment, fail)
    with pytest.raises(type(error)):
        write_files(writers)
    monkeypatch.undo()
    assert listing(tmp_path) == ["first", "second"]
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"old"}


def test_a_file_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    """Else a power cut could leave the name with an empty file."""
    events = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor):
        mode = os.fstat(descriptor).st_mode
        size = os.fstat(descriptor).st_size
        events.append("folder" if stat.S_ISDIR(mode) else f"{size} bytes")
        fsync(descriptor)

    def note_replace(*paths):
        events.append("name")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_files({tmp_path / "one": writing(b"12345"), tmp_path / "two": writing(b"123")})
    assert events == ["5 bytes", "3 bytes", "name", "name", "folder"]


@pytest.mark.parametrize(("number", "stands"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_flushed(tmp_path, monkeypatch, number, stands):
    """Some file systems cannot; that the disk fails is another matter."""
    fsync = os.fsync

    def refuse(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    if stands:
        with pytest.raises(OSError, match="file"):
            write_files({tmp_path / "file": writing(b"1")})
    else:
        write_files({tmp_path / "file": writing(b"1")})
    assert listing(tmp_path) == ["file"]


def test_a_full_disk(tmp_path):
    """The system's own refusal, at every size up to that of the content."""
    (tmp_path / "file").write_bytes(b"old")
    run_well(__file__, "full", str(tmp_path))
    assert listing(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def write_on_a_full_disk(folder):
    content = bytes(100_000)
    sys.dont_write_bytecode = True  # Python would keep what it could write of it
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    for limit in (0, 1, 4096, 65_536, len(content) - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(OSError, match="too large") as caught:
            write_files({folder / "file": writing(content)})
        assert caught.value.filename == str(folder / "file")


def test_a_killed_process_leaves_the_old_or_the_new_file(tmp_path):
    target = tmp_path / "file"
    write_files({target: writing(contents(0))})
    environment = {**os.environ, "PYTHONPATH": str(Path(pycnn.__file__).parents[1])}
    seen = set()
    for attempt in range(60):
        if attempt >= 8 and len(seen) == 2:
            break
        child = subprocess.Popen(
            [sys.executable, __file__, "forever", str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
        )
        assert child.stdout.read(1) == b"."  # it has begun
        time.sleep(0.01 + 0.007 * (attempt % 8))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert child.returncode == -signal.SIGKILL
        content = target.read_bytes()
        assert content in (contents(0), contents(1))
        seen.add(content[0])
        others = [name for name in listing(tmp_path) if name != "file"]
        assert all(name.startswith(".pycnn-") and name.endswith(".tmp") for name in others)
    assert len(seen) == 2


def contents(which):
    return bytes([which]) * 3_000_000


def write_forever(folder):
    print(".", end="", flush=True)
    while True:
        for which in (1, 0):
            write_files({folder / "file": writing(contents(which))})


if __name__ == "__main__":
    {"full": write_on_a_full_disk, "forever": write_forever}[sys.argv[1]](Path(sys.argv[2]))
