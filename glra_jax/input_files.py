"""Looking at a file before it is read, so that an error says what is wrong with which."""

import os
import stat
from pathlib import Path


class UnusableFileError(ValueError):
    """A file that cannot be used; the message is whole, and names the file."""


def check_is_file(path: Path) -> None:
    """Raises unless a path is of a file that may be read.

    Opening a pipe would wait for whoever writes into it, maybe for ever.

    Raises:
      FileNotFoundError: there is nothing.
      IsADirectoryError: a folder.
      PermissionError: a file that may not be read.
      ValueError: a pipe, a socket or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}: No such file or directory: '{path}'") from None
    except OSError as error:
        raise type(error)(f"{path} cannot be looked at: {error.strerror}") from error
    except ValueError as error:  # a null character in the name
        raise ValueError(f"{str(path)!r} is not the name of a file: {error}") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder; give the file in it")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is a pipe or a device; give a file, written whole")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"{path} may not be read; change its permissions")


def one_of_many(path: Path, count: int, page: int | None, *, what: str = "pictures") -> int:
    """Index of the picture to read in a file that holds several.

    Raises:
      UnusableFileError: more than one and no `page`, or no such page.
    """
    if page is None and count > 1:
        raise UnusableFileError(
            f"{path} holds {count} {what}, and one is taken at a time; save it as a file of its "
            f"own, or give the photograph's number, 1 to {count}: --page, or page= in Python"
        )
    if page is not None and not 1 <= page <= count:
        raise UnusableFileError(
            f"{path} holds {count} {what}; page must be from 1 to {count}, got {page}"
        )
    return 0 if page is None else page - 1
