"""Which of several processes works on a file: a claim that ends with the process that made it."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

_fcntl: ModuleType | None
try:
    import fcntl as _fcntl
except ImportError:  # Windows has none
    _fcntl = None

_NAME = ".glra-jax.lock"
_OPEN = 0  # the byte that all who have the file open share
_PLACES = 2**62


class Claims:
    """Claims of one process on files of a folder; use it in a `with` statement.

    A claim is a lock of the operating system on one byte of a hidden file in the folder, which byte
    follows from the name claimed. However a process ends, its locks end with it, also on network
    disks. The hidden file is removed by the last who leaves.

    Args:
      folder: that the processes share, and may write in.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Claims":
        if _fcntl is None:
            return self
        while True:
            file = self._opened()
            try:
                _fcntl.lockf(file, _fcntl.LOCK_SH, 1, _OPEN)
            except OSError:  # a file system without locks: every process for itself
                file.close()
                return self
            if os.fstat(file.fileno()).st_nlink:
                self._file = file
                return self
            file.close()  # removed between opening and locking

    def _opened(self) -> BinaryIO:
        """The hidden file, made if it is missing; whoever may write in the folder may lock it."""
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            with contextlib.suppress(OSError):  # a file system without permissions
                os.fchmod(descriptor, os.stat(self._path.parent).st_mode & 0o666)
            return os.fdopen(descriptor, "rb+")
        return self._path.open("ab+")

    def __exit__(self, *_: object) -> None:
        if self._file is None or _fcntl is None:
            return
        with contextlib.suppress(OSError):  # others are still at work
            _fcntl.lockf(self._file, _fcntl.LOCK_EX | _fcntl.LOCK_NB, 1, _OPEN)
            self._path.unlink()
        self._file.close()
        self._file = None

    @contextlib.contextmanager
    def of(self, path: Path) -> Iterator[bool]:
        """Claims a file, which need not exist, for as long as it is worked on.

        Yields:
          Whether that succeeded; False where another process has it.
        """
        if self._file is None or _fcntl is None:
            yield True
            return
        digest = hashlib.sha256(os.fsencode(path.name)).digest()
        place = 1 + int.from_bytes(digest[:8], "big") % _PLACES
        try:
            _fcntl.lockf(self._file, _fcntl.LOCK_EX | _fcntl.LOCK_NB, 1, place)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            _fcntl.lockf(self._file, _fcntl.LOCK_UN, 1, place)
