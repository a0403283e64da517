import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_readmes_notebook_example_runs_and_saves_version_one(tmp_path):
    """The block that a reader copies into a notebook works as it stands."""
    block = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]

    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )

    assert (0, "v1\n") == (done.returncode, done.stdout), done.stderr
    assert (tmp_path / "models/predictive-analytics/v1/manifest.json").is_file()


def test_the_readme_names_only_flags_that_exist():
    """Every flag of the README's table is one of serve's."""
    from bundleserver.commands.flags import FLAGS

    named = set(re.findall(r"^\| `(--[a-z_]+)`", README.read_text(), re.MULTILINE))

    assert named
    assert set() == named - {flag.spelling for flag in FLAGS.values()}


def test_the_readme_names_only_metrics_that_exist():
    """Every metric that the README names is one that the server exports."""
    serving = Path(__file__).parent.parent / "runtime/bundleserver/serving"
    sources = [serving / "metrics.py", serving / "tallies.py", serving / "cluster/merging.py"]
    text = "".join(source.read_text() for source in sources)
    exported = set(re.findall(r'"(bundleserver_[a-z_]+)"', text))
    named = set(re.findall(r"`(bundleserver_[a-z_]+)`", README.read_text()))

    assert named
    assert set() == {re.sub(r"_(total|info)$", "", name) for name in named} - exported
