"""Code on disk: found again, shared, bounded, and believed only where nobody else can have written it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pybpf.jit import cache as disk
from pybpf.jit import codegen, engine
from pybpf.jit.cache import Cache
from pybpf.jit.codegen import Level
from tests.jit.test_engine import TWICE, call

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "one" / "two")


def test_what_is_put_is_got(cache):
    assert cache.get(KEY) is None
    for contents in (b"code", b"", bytes(100_000)):
        cache.put(KEY, contents)
        assert cache.get(KEY) == contents
    assert cache.get(OTHER) is None
    assert [path.name for path in cache.directory.iterdir()] == [KEY]


def test_nobody_else_can_read_or_write_it(cache):
    before = os.umask(0)
    try:
        cache.put(KEY, b"code")
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((cache.directory / KEY).stat().st_mode) == 0o600


@pytest.mark.parametrize("where", [0, 13, 50, -1])
def test_damaged_entry(cache, where):
    cache.put(KEY, b"code that is damaged")
    data = bytearray((cache.directory / KEY).read_bytes())
    data[where] ^= 1
    (cache.directory / KEY).write_bytes(data)
    assert cache.get(KEY) is None
    cache.put(KEY, b"new")
    assert cache.get(KEY) == b"new"


@pytest.mark.parametrize("size", [0, 5, 20, 47])
def test_truncated_entry(cache, size):
    cache.put(KEY, b"code that is cut")
    (cache.directory / KEY).write_bytes((cache.directory / KEY).read_bytes()[:size])
    assert cache.get(KEY) is None


def test_entry_under_another_name(cache):
    cache.put(KEY, b"code")
    (cache.directory / KEY).rename(cache.directory / OTHER)
    assert cache.get(OTHER) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_entry_that_others_may_write(cache, mode):
    cache.put(KEY, b"code")
    (cache.directory / KEY).chmod(mode)
    assert cache.get(KEY) is None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_directory_that_others_may_write_is_not_used(cache, mode):
    cache.put(KEY, b"code")
    cache.directory.chmod(mode)
    assert cache.get(KEY) is None
    cache.put(OTHER, b"code")
    assert not (cache.directory / OTHER).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
def test_files_of_another_user(cache):
    cache.put(KEY, b"code")
    os.chown(cache.directory / KEY, 12345, -1)
    assert cache.get(KEY) is None
    os.chown(cache.directory / KEY, 0, -1)
    assert cache.get(KEY) == b"code"
    os.chown(cache.directory, 12345, -1)
    assert cache.get(KEY) is None


def test_entry_that_is_no_file(cache):
    cache.put(KEY, b"code")
    (cache.directory / KEY).rename(cache.directory.parent / "elsewhere")
    (cache.directory / KEY).symlink_to(cache.directory.parent / "elsewhere")
    assert cache.get(KEY) is None
    (cache.directory / KEY).unlink()
    os.mkfifo(cache.directory / KEY, 0o600)
    assert cache.get(KEY) is None


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EMFILE])
def test_disk_that_takes_nothing(cache, monkeypatch, fault):
    """Nothing is raised, and nothing is left behind."""
    cache.put(OTHER, b"code")

    def fail(*_: Any) -> None:
        raise OSError(fault, os.strerror(fault))

    for function in ("replace", "open"):
        with monkeypatch.context() as patched:
            patched.setattr(os, function, fail)
            cache.put(KEY, b"code")
    assert [path.name for path in cache.directory.iterdir()] == [OTHER]


@pytest.mark.slow
def test_full_disk(tmp_path):
    """A file system of one page, where there is one to be had."""
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k,mode=700", "tmpfs", str(tiny)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        cache = Cache(tiny)
        cache.put(KEY, bytes(10_000))
        assert cache.get(KEY) is None
        assert list(tiny.iterdir()) == []
        cache.put(OTHER, b"small")
        assert cache.get(OTHER) == b"small"
    finally:
        subprocess.run(["umount", str(tiny)], check=True)


def test_place_that_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    cache = Cache(tmp_path / "file" / "below")
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None


def test_it_does_not_grow_beyond_its_limit_and_keeps_what_was_used_last(tmp_path):
    cache = Cache(tmp_path / "c", limit=100_000)
    for number in range(200):
        cache.put(f"{number:064}", bytes(2000))
        os.utime(cache.directory / f"{number:064}", (number, number))
    sizes = [path.stat().st_size for path in cache.directory.iterdir()]
    assert 75_000 <= sum(sizes) <= 100_000 + 32 * 2100
    assert cache.get(f"{199:064}") == bytes(2000)
    assert cache.get(f"{0:064}") is None


def test_use_is_noted(cache):
    cache.put(KEY, b"code")
    os.utime(cache.directory / KEY, (1, 1))
    cache.get(KEY)
    assert (cache.directory / KEY).stat().st_mtime > 1e9


def test_what_killed_writers_left_is_swept(cache):
    cache.put(KEY, b"code")
    old, new = cache.directory / ".new-0", cache.directory / ".new-1"
    for path, age in ((old, 1), (new, None)):
        path.write_bytes(b"half")
        if age is not None:
            os.utime(path, (age, age))
    Cache(cache.directory).put(OTHER, b"code")
    assert not old.exists()
    assert new.exists()


@pytest.mark.slow
def test_writers_and_readers_at_once(tmp_path):
    """Whoever reads gets what one of the writers wrote, whole, or nothing; files vanish meanwhile."""
    seen: set[bytes | None] = set()
    contents = [bytes([number]) * 20_000 for number in range(1, 5)]

    def write(mine: bytes) -> None:
        cache = Cache(tmp_path / "c", limit=50_000)
        for number in range(150):
            cache.put(KEY, mine)
            cache.put(f"{number % 5:064}", mine)

    def read() -> None:
        cache = Cache(tmp_path / "c")
        for _ in range(600):
            seen.add(cache.get(KEY))

    threads = [threading.Thread(target=write, args=(mine,)) for mine in contents]
    threads += [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= {None, *contents}
    assert len(seen) > 1


# Where it is


def test_place(monkeypatch, tmp_path):
    def directory(**variables: str) -> Path | None:
        for name in ("PYBPF_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        found = disk.default()
        return None if found is None else found.directory

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert directory() == home / ".cache/pybpf"
    assert directory(XDG_CACHE_HOME=str(tmp_path)) == tmp_path / "pybpf"
    assert directory(XDG_CACHE_HOME="relative") == home / ".cache/pybpf"
    assert directory(PYBPF_CACHE="/some/where", XDG_CACHE_HOME=str(tmp_path)) == Path("/some/where")
    assert directory(PYBPF_CACHE="off", XDG_CACHE_HOME=str(tmp_path)) is None
    if os.geteuid() == 0:
        os.chown(home, 12345, -1)
        assert directory() is None


# With code in it


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PYBPF_CACHE", str(tmp_path / "code"))
    return tmp_path / "code"


@pytest.mark.parametrize("level", Level)
def test_code_is_compiled_once(place, monkeypatch, level):
    assert codegen.find(TWICE, ["twice"], level) is None
    assert call(codegen.build(TWICE, ["twice"], level), "twice", 5) == 50
    assert codegen.find(TWICE, ["twice"], level) is not None
    monkeypatch.setattr(engine, "emit", None)
    assert call(codegen.build(TWICE, ["twice"], level), "twice", 5) == 50


def test_all_that_code_depends_on_makes_another_entry(place, monkeypatch):
    codegen.build(TWICE, ["twice"], Level.QUICK)
    codegen.build(TWICE, ["twice"], Level.FULL)
    codegen.build(TWICE.replace("%s, %s", "%s, 1"), ["twice"], Level.FULL)
    monkeypatch.setattr(codegen, "origin", lambda: b"another processor")
    codegen.build(TWICE, ["twice"], Level.FULL)
    assert len(list(place.iterdir())) == 4


def test_nothing_is_kept_where_it_is_not_known_what_code_depends_on(place, monkeypatch):
    monkeypatch.setattr(codegen, "origin", lambda: None)
    assert call(codegen.build(TWICE, ["twice"]), "twice", 5) == 50
    assert not place.exists()


def test_damage_means_that_code_is_compiled(place):
    codegen.build(TWICE, ["twice"])
    (path,) = place.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert call(codegen.build(TWICE, ["twice"]), "twice", 5) == 50
    assert call(codegen.build(TWICE, ["twice"]), "twice", 5) == 50


@pytest.mark.slow
def test_second_process_does_not_import_llvm(place):
    script = (
        "import sys, pybpf; fw = pybpf.instantiate(pybpf.verify(pybpf.Program.from_asm('r0 = r2\\n exit', 'filter')));"
        "print(fw.call(b'abc'), 'llvmlite.binding' in sys.modules)"
    )
    lines = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert lines == ["3 True\n", "3 False\n"]
