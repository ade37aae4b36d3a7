"""Section names and the program types that they stand for."""

from __future__ import annotations

import pytest

from pybpf import program_types
from pybpf.elf.sections import NAMES, program_type
from tests.elf.libbpf import Libbpf

WORDS = [name for names in NAMES.values() for name in names.split()]
WORDS += [section for type in program_types.BY_NAME.values() for section in type.sections]


@pytest.mark.oracle
@pytest.mark.parametrize("behind", ["", "/something"])
def test_names_as_libbpf_has_them(behind: str):
    """Where the installed libbpf knows a name, it gives the same type; it is older than some of the names."""
    libbpf = Libbpf()
    known = {name: type for name in WORDS if (type := libbpf.section_type(name + behind))}
    assert len(known) > 20
    assert {name: program_type(name + behind) for name in known} == known


@pytest.mark.parametrize(
    ("section", "type"),
    [
        ("xdp", "xdp"),
        ("xdp.frags/devmap", "xdp"),
        ("?kprobe/do_exit", "kprobe"),
        ("cgroup/connect4", "cgroup_sock_addr"),
        ("cgroup/skb", "cgroup_skb"),
        ("sk_skb/stream_parser/mine", "sk_skb"),
        ("tracepoint/syscalls/sys_enter_open", "tracepoint"),
        ("raw_tracepoint.w/x", "raw_tracepoint_writable"),
        ("filter", "filter"),
    ],
)
def test_names_and_what_stands_behind_them(section: str, type: str):
    """The longest part before a slash counts; a question mark means that nothing loads it unasked."""
    assert program_type(section) == type


@pytest.mark.parametrize(
    ("section", "type"),
    [
        ("xdp1", "xdp"),
        ("xdp_redirect_map", "xdp"),
        ("socket2", "socket_filter"),
        ("tc_mark", "tc"),
        ("cgroup/sock1", "cgroup_sock"),
    ],
)
def test_loose_names_of_old_objects(section: str, type: str):
    """Older loaders took a name for a prefix."""
    assert program_type(section) == type


@pytest.mark.parametrize(
    "section", ["", ".text", "tcp", "xdpsock", "from-netdev", "2/1", "maps", "kprobes", "license", "/"]
)
def test_names_of_no_type(section: str):
    """A prefix ends before a letter."""
    assert program_type(section) is None


def test_every_type_that_pybpf_verifies_has_its_sections():
    """Both tables, pybpf's own and libbpf's, give the same answer."""
    for name, type in program_types.BY_NAME.items():
        for section in type.sections:
            assert program_type(section) == name
