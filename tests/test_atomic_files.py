"""Files written whole: permissions, links, names, and nothing replaced unasked."""

import os
import stat
import threading

import pytest

from glra_jax.atomic_files import check_writable, write_atomically
from glra_jax.input_files import check_is_file


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_new_files_follow_the_umask(tmp_path, umask, expected):
    former = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"1", overwrite=False)
        write_atomically(tmp_path / "b", b"1", overwrite=True)
    finally:
        os.umask(former)
    assert mode(tmp_path / "a") == mode(tmp_path / "b") == expected


def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    for permissions in (0o600, 0o640):
        path.chmod(permissions)
        write_atomically(path, b"22", overwrite=True)
        assert (path.read_bytes(), mode(path)) == (b"22", permissions)


def test_links_are_followed_when_asked_and_never_replaced(tmp_path):
    (tmp_path / "real").write_bytes(b"1")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", b"22", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"22"

    (tmp_path / "dangling").symlink_to("nowhere")
    for attempt in (
        lambda: check_writable(tmp_path / "dangling", overwrite=False),
        lambda: write_atomically(tmp_path / "dangling", b"1", overwrite=False),
    ):
        with pytest.raises(FileExistsError, match="dangling exists"):
            attempt()
    assert os.readlink(tmp_path / "dangling") == "nowhere"
    assert not (tmp_path / "nowhere").exists()


def test_of_many_writers_that_may_not_replace_one_wins(tmp_path):
    lost = []
    ready = threading.Barrier(8)

    def write(number: int) -> None:
        ready.wait()
        try:
            write_atomically(tmp_path / "a", b"%d" % number, overwrite=False)
        except FileExistsError:
            lost.append(number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 7
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert int((tmp_path / "a").read_bytes()) not in lost


def test_names_as_long_as_the_file_system_takes(tmp_path):
    write_atomically(tmp_path / ("a" * 255), b"1", overwrite=False)
    write_atomically(tmp_path / ("é" * 120), b"1", overwrite=False)
    for name in ("a" * 256, "é" * 128):
        with pytest.raises(OSError, match=r"more than 255 bytes; choose a shorter one"):
            check_writable(tmp_path / name, overwrite=False)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_place_for_a_file(tmp_path, overwrite):
    with pytest.raises(IsADirectoryError, match="is a folder; choose the name of a file"):
        check_writable(tmp_path, overwrite=overwrite)
    with pytest.raises(FileNotFoundError, match="no folder"):
        check_writable(tmp_path / "gone" / "a", overwrite=overwrite)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="pipe"):
        check_writable(tmp_path / "pipe", overwrite=overwrite)


def test_a_folder_that_cannot_be_written_in(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match=rf"in the folder {tmp_path} \(Permission denied\)"):
        check_writable(tmp_path / "a", overwrite=False)


def test_what_is_no_file_to_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind, words in (
        (tmp_path / "pipe", ValueError, "pipe is a pipe or a device"),
        (tmp_path, IsADirectoryError, "is a folder; give the file in it"),
        (tmp_path / "gone", FileNotFoundError, "no file .*gone"),
        (tmp_path / "a" / ("b" * 300), OSError, "bbb"),
    ):
        with pytest.raises(kind, match=words):
            check_is_file(path)
    (tmp_path / "a").write_bytes(b"")
    check_is_file(tmp_path / "a")


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="a may not be read; change its permissions"):
        check_is_file(tmp_path / "a")
