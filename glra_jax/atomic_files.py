"""Files that are never seen half written, whenever the process is killed."""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

_LONGEST_NAME = 255  # bytes, where a file system does not say


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Raises what `write_atomically` would, before what is to be written is computed.

    Raises:
      FileNotFoundError: the folder does not exist.
      IsADirectoryError: `path` is a folder.
      FileExistsError: there is something at `path` and `overwrite` is False, or it is no file.
      OSError: a name that is too long, or a folder in which no file can be made.
    """
    _check_place(path, overwrite=overwrite)
    with _temporary(_target(path)) as temporary:
        os.unlink(temporary)


def _check_place(path: Path, *, overwrite: bool) -> None:
    """Raises what `check_writable` would, but for a folder in which no file can be made."""
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; make it before {path.name}")
    check_name(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; choose the name of a file")
    # A link that leads nowhere is there, too.
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path} exists; choose another name or ask for overwriting")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is a pipe or a device; choose the name of a file")


def check_name(path: Path) -> None:
    """Raises OSError for a name that is too long for its folder, which must be there."""
    longest = _longest_name(path.parent)
    if len(os.fsencode(path.name)) > longest:
        raise OSError(f"{path} has a name of more than {longest} bytes; choose a shorter one")


def write_atomically(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Writes a file so that it is never seen half written, and never replaces one unasked.

    A new file has the permissions that any has, and one that is replaced keeps its own. Where
    `path` is a link, the file that it leads to is replaced.

    Raises:
      FileExistsError: there is something at `path` and `overwrite` is False.
      OSError: what else `check_writable` refuses.
    """
    with written_atomically(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def written_atomically(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives an empty file to be written, which is at `path` when that is done.

    See `write_atomically`.

    Yields:
      The file, beside the other. It is removed where an error is raised.
    """
    _check_place(path, overwrite=overwrite)
    target = _target(path)
    with _temporary(target) as temporary:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if overwrite:
            with contextlib.suppress(FileNotFoundError):
                os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
            os.replace(temporary, target)
            return
        try:
            _place(temporary, target)
        except FileExistsError:  # made since it was looked for
            raise FileExistsError(
                f"{path} exists; choose another name or ask for overwriting"
            ) from None


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _place(temporary: Path, target: Path) -> None:
    """Gives a file its name, unless something has that name."""
    try:
        os.link(temporary, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without hard links
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(temporary, target)


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """An empty file beside another, removed unless it was moved; as the umask has it."""
    path = target.parent / f".{target.name[:16]}.{secrets.token_hex(8)}.tmp"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise type(error)(
            f"no file can be made in the folder {target.parent} ({error.strerror}); choose another"
        ) from error
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return _LONGEST_NAME
