"""A directory whose only files lie below its top, and which nothing opens, is FAILED by name."""

from __future__ import annotations

import pytest

from bundleserver.sources.directory import DirectorySource


def write(root, *names):
    """Write files into a directory and its directories."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def listed(root, settle_seconds=0.0, times=(0.0, 9.0)):
    """Poll a directory that is served under one name; return the last listing."""
    clock = iter(times)
    now = [0.0]
    source = DirectorySource(root, "wind", settle_seconds=settle_seconds, clock=lambda: now[0])
    for at in clock:
        now[0] = at
        (listing,) = source.discover()
    return listing


NOTHING_OPENS = {
    "a saved model": (("tf/model/saved_model.pb",), "'tf/model/saved_model.pb'"),
    "a model of MLflow": (("export/MLmodel",), "serve an MLflow model with --model_uri"),
    "a version of TensorFlow": (("3/variables/variables.index",), "'variables/variables.index'"),
    "beside what passes over": (("README.md", "net/weights.pb"), "'README.md'"),
    "in the directory of that name": (("wind/deep/net.pb",), "'deep/net.pb'"),
}


@pytest.mark.parametrize("case", NOTHING_OPENS)
def test_what_nothing_opens_is_failed_by_name_below_the_top_too(tmp_path, case):
    """The sentence names the files and what would be taken."""
    files, said = NOTHING_OPENS[case]
    write(tmp_path, *files)

    (candidate,) = listed(tmp_path).candidates

    assert candidate.settled
    assert "nor a model file (*.ckpt, *.joblib" in str(candidate.problem)
    assert said in str(candidate.problem)


WAITS = {
    "models below": ("gust/model.joblib", "breeze/net.pb"),
    "models in directories of directories": ("north/gust/v1/model.pkl", "north/notes.txt"),
    "a bundle": ("gust/manifest.json",),
    "half an upload": ("gust/model.bin.part",),
    "what lies too deep to be seen": ("a/notes.txt", "a/b/c/d/e/f/model.joblib"),
    "hidden names": ("gust/.gitkeep", ".cache/net.pb"),
    "very many": tuple(f"data/{number}.csv" for number in range(600)),
    "a version whose manifest comes last": ("v4/parts/model.pt", "v4/parts/words.txt"),
}


@pytest.mark.parametrize("case", WAITS)
def test_what_may_still_become_a_model_is_waited_for(tmp_path, case):
    """Models of other names, uploads and what cannot all be seen are not FAILED."""
    write(tmp_path, *WAITS[case])

    listing = listed(tmp_path)

    assert ((), "waiting for") == (listing.candidates, listing.reason[:11])


def test_files_below_that_change_are_not_judged_yet(tmp_path):
    """An upload that grows in a directory is no failure before it has rested."""
    write(tmp_path, "net/weights.pb")
    now = [0.0]
    source = DirectorySource(tmp_path, "wind", settle_seconds=2.0, clock=lambda: now[0])
    for _ in range(3):
        with (tmp_path / "net" / "weights.pb").open("a") as file:
            file.write("more")
        now[0] += 1.5
        (listing,) = source.discover()
        assert [False] == [candidate.settled for candidate in listing.candidates]

    now[0] += 2.5
    (listing,) = source.discover()

    assert [True] == [candidate.settled for candidate in listing.candidates]


def test_a_link_to_a_directory_is_not_followed(tmp_path):
    """What it leads to may be anything, also itself."""
    write(tmp_path, "net/weights.pb")
    (tmp_path / "net" / "again").symlink_to(tmp_path, target_is_directory=True)

    assert () == listed(tmp_path).candidates
