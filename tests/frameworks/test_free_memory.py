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

    assert 350 == free_memory(new, none, none)
    assert 103 == free_memory(old.parent, none, none)
    assert 4096 == free_memory(none, machine, none)
    assert 350 == free_memory(new, machine, none)


def test_where_nothing_tells_memory_is_not_limited(tmp_path):
    """No limit, a limit of "max" and files that cannot be read are no limit."""
    unlimited = write(tmp_path / "v2", memory__max="max\n", memory__current="700\n")

    assert free_memory(*[tmp_path / "none"] * 3) > 1 << 60
    assert free_memory(unlimited, *[tmp_path / "none"] * 2) > sys.maxsize >> 11


def test_every_group_that_the_process_is_in_limits_it(tmp_path):
    """Where the root is the machine's, the limit is the service's, or that of its parents."""
    for part, most in {"": "max", "a": "900", "a/b": "max", "a/c": "100"}.items():
        write(tmp_path / "v2" / part, memory__max=most, memory__current="200\n")
    names = {"memory.limit_in_bytes": "70", "memory.usage_in_bytes": "60"}
    write(tmp_path / "v1" / "memory" / "d", **names)
    none = tmp_path / "none"

    def free(groups: str, root: str = "v2") -> int:
        own = write(tmp_path / "own", cgroup=groups) / "cgroup"
        return free_memory(tmp_path / root, none, own)

    assert 700 == free("0::/a/b\n")
    assert 700 == free("0::/a/b/unseen: x\n")
    assert free("0::/\n") > 1 << 60
    assert free("0::/../a\n") > 1 << 60
    assert free("0::/\n4:cpu:/d\n", "v1") > 1 << 60
    assert 10 == free("0::/\n4:memory:/d\n", "v1")
    assert 10 == free("no groups\n4:hugetlb,memory:/d/unseen\n", "v1")
