"""How much memory is free."""

import sys

from bundleserver.frameworks.free_memory import free_memory


def write(directory, **files):
    """Write files of these contents."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


def test_free_memory_is_what_is_left_of_the_nearest_limit(tmp_path):
    """Containers of both kinds and machines are asked, and cached files are not in use."""
    stat = "anon 500\nactive_file 30\ninactive_file 20\nshmem 7\n"
    new = write(tmp_path / "v2", memory__max="1000\n", memory__current="700\n", memory__stat=stat)
    old = write(
        tmp_path / "v1" / "memory",
        **{"memory.limit_in_bytes": "900", "memory.usage_in_bytes": "800"},
        memory__stat="total_active_file 1\ntotal_inactive_file 2\nactive_file 99\n",
    )
    machine = write(tmp_path / "m", meminfo="MemTotal: 9 kB\nMemAvailable: 4 kB\n") / "meminfo"
    none = tmp_path / "none"

    assert 350 == free_memory(new, none)
    assert 103 == free_memory(old.parent, none)
    assert 4096 == free_memory(none, machine)
    assert 350 == free_memory(new, machine)


def test_where_nothing_tells_memory_is_not_limited(tmp_path):
    """No limit, a limit of "max" and files that cannot be read are no limit."""
    unlimited = write(tmp_path / "v2", memory__max="max\n", memory__current="700\n")

    assert free_memory(tmp_path / "none", tmp_path / "none") > 1 << 60
    assert free_memory(unlimited, tmp_path / "none") > sys.maxsize >> 11
