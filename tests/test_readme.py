import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").glob("*.md"))]
LINKING = [*PAGES, PROJECT / "servingruntimes/README.md"]


@pytest.mark.parametrize(
    ("page", "printed", "written"),
    [
        ("README.md", "v1\n", "models/predictive-analytics/v1/manifest.json"),
        ("docs/traffic.md", "v1\nv2\n", "requests.jsonl"),
    ],
)
def test_the_example_that_saves_runs_as_it_stands(page, printed, written, tmp_path):
    """The first Python block of a page, which a reader copies, works as it stands."""
    block = re.findall(r"```python\n(.*?)```", (PROJECT / page).read_text(), re.DOTALL)[0]

    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )

    assert (0, printed) == (done.returncode, done.stdout), done.stderr
    assert (tmp_path / written).is_file()


def test_the_readme_is_short():
    """What the README grows beyond two hundred lines belongs into a page of its own."""
    assert len(README.read_text().splitlines()) <= 200


def test_the_pages_name_only_flags_that_exist():
    """Every flag of a page's table is one of serve's."""
    from bundleserver.commands.flags.table import FLAGS

    text = "".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"^\| `(--[a-z_]+)`", text, re.MULTILINE))

    assert named
    assert set() == named - {flag.spelling for flag in FLAGS.values()}


def test_the_pages_name_exactly_the_metrics_that_exist():
    """Every metric that a page names is one that the server exports, and none is left out."""
    serving = PROJECT / "runtime/bundleserver/serving"
    sources = "".join(source.read_text() for source in serving.rglob("*.py"))
    exported = set(re.findall(r'"(bundleserver_[a-z_]+)"', sources))
    named = set(re.findall(r"`(bundleserver_[a-z_]+)`", "".join(p.read_text() for p in PAGES)))

    assert exported
    assert exported == {re.sub(r"_(total|info)$", "", name) for name in named}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_of_a_page_leads_to_a_heading_that_exists(page):
    """A reader who follows a link of ours finds the file, and the heading in it."""
    for target, anchor in re.findall(r"\]\(([\w./-]+)(?:#([\w-]+))?\)", page.read_text()):
        there = page.parent / target
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings]
            assert anchor in anchors, f"{target}#{anchor}"


def test_the_index_links_every_page():
    """Nobody looks for a page that the index does not tell of."""
    text = (PROJECT / "docs/index.md").read_text()

    assert [] == [
        page.name for page in PAGES[1:] if page.name != "index.md" and f"({page.name})" not in text
    ]


def test_the_page_of_frameworks_shows_the_plug_in_that_is_tested():
    """Whoever copies it from the page has what the tests save, infer and serve."""
    plug_in = (PROJECT / "tests/frameworks/plugin/straight_line.py").read_text()

    assert f"```python\n{plug_in}```" in (PROJECT / "docs/frameworks.md").read_text()


def test_the_class_of_the_page_of_frameworks_is_saved_as_it_stands(tmp_path):
    """Whoever copies both blocks, the first to the file that it names, has a version."""
    text = (PROJECT / "docs/frameworks.md").read_text().partition("## Code of your own")[2]
    source, saving = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[:2]
    (tmp_path / "model.py").write_text(source)

    done = subprocess.run(
        [sys.executable, "-c", saving], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )

    assert 0 == done.returncode, done.stderr
    manifest = json.loads((tmp_path / "models/scores/v1/manifest.json").read_text())
    score = manifest["examples"][0]["outputs"]["score"]
    assert [1.7, 4.7] == [round(value, 6) for value in score]
