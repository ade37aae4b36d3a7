"""Compiled code on disk, so that a program is compiled once on a machine and not once in each process.

An entry is a file named by a digest of everything that its contents depend on (`pybpf.jit.codegen`), and holds a digest of these contents. What
is in it will be executed, so only files are read that nobody but this user can have written. No fault of the cache is anybody's
fault: a disk that is full, a home that is read-only, an entry that is damaged mean that code is compiled.

The environment variable PYBPF_CACHE names the directory, or is ``off``; otherwise it is ``pybpf`` in XDG_CACHE_HOME
(specifications.freedesktop.org/basedir-spec) or in ``~/.cache``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

VARIABLE: Final = "PYBPF_CACHE"
LIMIT: Final = 256 << 20
"""Bytes that all entries may take; beyond, those go that were not used for longest."""

_MAGIC: Final = b"pybpf code 1\n"
_DIGEST: Final = 32
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_FRESH: Final = 24 * 3600.0  # seconds in which a use need not be noted again
_ABANDONED: Final = 3600.0  # seconds after which a file that is being written belongs to nobody any more
_TEMPORARY: Final = ".new-"
_SWEEP: Final = 32  # entries that are written between two looks at the size of all


class Cache:
    """Entries in a directory, which is made when the first is written. Any number of processes may share it."""

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self.directory: Final = directory
        self._path = os.fspath(directory)
        self._limit = limit
        self._written = 0

    def get(self, key: str) -> bytes | None:
        """The contents of an entry; None where there is none that can be trusted."""
        with contextlib.suppress(OSError):
            if self._is_ours():
                return self._read(key)
        return None

    def put(self, key: str, contents: bytes) -> None:
        """Write an entry, or none where that cannot be done."""
        with contextlib.suppress(OSError):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._is_ours():
                self._write(key, contents)
                if self._written % _SWEEP == 0:
                    self._sweep()
                self._written += 1

    def _is_ours(self) -> bool:
        return _is_trusted(os.stat(self._path))

    def _read(self, key: str) -> bytes | None:
        path = os.path.join(self._path, key)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _is_trusted(status) or status.st_size > self._limit:
                return None
            data = file.readall()
        start = len(_MAGIC) + _DIGEST
        contents = data[start:]
        if data[:start] != _MAGIC + _digest(key, contents):
            return None
        if time.time() - status.st_mtime > _FRESH:
            os.utime(path)
        return contents

    def _write(self, key: str, contents: bytes) -> None:
        temporary = os.path.join(self._path, _TEMPORARY + secrets.token_hex(8))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(_MAGIC + _digest(key, contents) + contents)
            os.replace(temporary, os.path.join(self._path, key))
        except BaseException:
            os.unlink(temporary)
            raise

    def _sweep(self) -> None:
        """Delete what nobody has used for longest, down to three quarters of the limit, and what writers left behind."""
        now, files = time.time(), []
        with os.scandir(self._path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if not entry.name.startswith(_TEMPORARY):
                        files.append((status.st_mtime, status.st_size, entry.path))
                    elif now - status.st_mtime > _ABANDONED:
                        os.unlink(entry.path)
        total = sum(size for _, size, _ in files)
        if total <= self._limit:
            return
        for _, size, path in sorted(files):
            if total <= self._limit * 3 // 4:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size


def default() -> Cache | None:
    """The cache that the environment asks for; None where there is to be none."""
    directory = _directory(os.environ.get(VARIABLE), os.environ.get("XDG_CACHE_HOME"))
    return None if directory is None else _known(directory)


def _directory(asked: str | None, caches: str | None) -> str | None:
    if os.name != "posix" or asked == "off":
        return None
    if asked:
        return asked
    # The specification: a path that is not absolute is to be ignored.
    if not caches or not os.path.isabs(caches):
        caches = os.path.expanduser("~/.cache")
    return os.path.join(caches, "pybpf") if os.path.isabs(caches) and _may_make(caches) else None


def _may_make(directory: str) -> bool:
    """Not in another user's home, where sudo may have left us: what we make there would stand in that user's way."""
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    return os.stat(directory).st_uid == os.geteuid()


@lru_cache(maxsize=16)
def _known(directory: str) -> Cache:
    return Cache(Path(directory))


def _is_trusted(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_MAY_WRITE


def _digest(key: str, contents: bytes) -> bytes:
    return blake2b(contents, digest_size=_DIGEST, key=key.encode()[:64]).digest()
