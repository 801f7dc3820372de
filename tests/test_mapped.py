"""Pages of a mapped file that nobody reads again."""

import mmap
import sys
from pathlib import Path

import pytest

from app.embedding.engines.mapped import let_go

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells what is mapped")

BYTES = 4 * 2**20


def kilobytes(file: Path) -> int:
    """What this process has of the file in memory."""
    whose, found = b"", 0
    for line in Path("/proc/self/smaps").read_bytes().splitlines():
        if b"-" in line.split()[0]:
            whose = line
        elif line.startswith(b"Rss:") and whose.endswith(bytes(file)):
            found += int(line.split()[1])
    return found


@pytest.mark.parametrize("name", ["graph.bin", "a graph with spaces.bin"])
def test_pages_are_let_go_and_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    file = tmp_path.resolve() / name
    content = bytes(range(256)) * (BYTES // 256)
    file.write_bytes(content)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == content
        assert kilobytes(file) == BYTES // 1024
        let_go(file)
        assert kilobytes(file) == 0
        assert mapped[:] == content


def test_what_may_have_been_changed_stays(tmp_path: Path) -> None:
    file = tmp_path.resolve() / "graph.bin"
    file.write_bytes(b"old" * BYTES)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
        mapped[:3] = b"new"
        let_go(file)
        assert mapped[:3] == b"new"


def test_a_file_that_is_not_mapped_is_none_of_its_business(tmp_path: Path) -> None:
    let_go(tmp_path / "absent")
