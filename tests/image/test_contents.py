"""What lies in the images, and what does not."""

from __future__ import annotations

import json
import os
import zipfile

import pytest

import bundleserver
from tests.image.conftest import BOTH, FULL, SLIM
from tests.image.containers import Image

LIBRARIES = "/opt/venv/lib/python3*/site-packages"


@pytest.mark.parametrize(("image", "limit_bytes"), [(FULL, 1_850_000_000), (SLIM, 680_000_000)])
def test_an_image_adds_no_more_than_its_budget(image, limit_bytes):
    """On top of the base the full image adds at most 1.85 GB, the slim one 680 MB."""
    base = Image(os.environ["BASE_IMAGE"])

    assert image.inspect()["Size"] - base.inspect()["Size"] <= limit_bytes


@BOTH
def test_an_image_says_what_it_is_and_how_it_runs(image):
    """The user is a number, and process 1 is Python itself, without a shell that keeps signals."""
    config = image.inspect()["Config"]

    assert "1001" == config["User"]
    assert ["python3", "-m", "bundleserver"] == config["Entrypoint"]
    assert {"8080/tcp", "8081/tcp"} == set(config["ExposedPorts"])
    assert bundleserver.__version__ == config["Labels"]["org.opencontainers.image.version"]
    assert "Apache-2.0" == config["Labels"]["org.opencontainers.image.licenses"]


@BOTH
@pytest.mark.parametrize(
    "script",
    [
        f"cd {LIBRARIES} && find . -type d '(' -name test -o -name tests ')'",
        f"cd {LIBRARIES} && find . -name '*.a' -o -name '*.o' -o -name '*.h' -o -name '*.hpp'",
        "find /opt /mnt /tmp /root '(' -name .cache -o -name pip ')'",
        "find / -xdev -name protoc -o -name 'protoc-*' -o -name stanc",
        "command -v gcc cc g++ clang ld make || true",
        "find /opt -perm /022 ! -type l",
    ],
    ids=["tests", "headers", "caches", "code generators", "compilers", "writable files"],
)
def test_an_image_has_nothing_that_serving_never_touches(image, script):
    """Nothing is left of building, and nothing of the program can be written by the server."""
    assert "" == image.shell(script)


@BOTH
def test_every_module_is_compiled(image):
    """On a read-only root file system nothing can be compiled later."""
    sources = "find /opt -name '*.py' ! -name py312_intrinsics.py | sort"
    compiled = "find /opt -name '*.pyc' | sed -E 's,__pycache__/(.*)\\.[^.]*\\.pyc,\\1.py,' | sort"

    missing = image.shell(
        f"{sources} >/tmp/s; {compiled} >/tmp/c; comm -23 /tmp/s /tmp/c; wc -l /tmp/c"
    )

    assert 3000 < int(missing.split()[0])
    assert 1 == len(missing.splitlines())


def test_only_the_full_image_has_the_heavy_libraries():
    """The slim image has scikit-learn, skops and MLflow's client; torch is the CPU's."""
    slim = ("sklearn", "skops", "cloudpickle")
    boosters = ("xgboost", "lightgbm", "catboost")
    names = (*slim, "torch", "prophet", "statsmodels", *boosters, "onnxruntime")
    script = f"import importlib.util as u; print(*[n for n in {names} if u.find_spec(n)])"

    assert " ".join(slim) == SLIM.python(script).strip()
    assert " ".join(names) == FULL.python(script).strip()
    assert "None" == FULL.python("import torch; print(torch.version.cuda)").strip()


def test_the_boosters_load_without_what_draws_them():
    """LightGBM finds OpenMP, which is scikit-learn's; plotly and graphviz are not in the image."""
    script = """
import catboost, importlib.util, lightgbm, onnxruntime, sklearn.ensemble, xgboost
loaded = {line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}
drawn = [name for name in ("plotly", "graphviz") if importlib.util.find_spec(name)]
print(sum("scikit_learn.libs" in path for path in loaded), drawn)
"""

    assert "1 []" == FULL.python(script).strip()


@BOTH
def test_both_images_have_what_is_no_framework(image):
    """MLflow's client, the fast trees and the fast parser are there, and need nothing writable."""
    assert "3.1" in image.python(
        "import mlflow.pyfunc, simdjson, skops.io, treelite; print(mlflow.__version__)"
    )


@BOTH
def test_an_image_on_top_can_install_a_teams_package(image, tmp_path):
    """``RUN pip install`` in a Dockerfile that starts from this image reaches the server."""
    wheel = tmp_path / "team-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("team_models.py", "answer = 42")
        about = "team-1.0.dist-info/"
        file.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: team\nVersion: 1.0\n")
        file.writestr(about + "WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(about + "RECORD", "")
    use = "python3 -c 'import team_models; print(team_models.answer)'"
    script = f"pip install --quiet --no-index /wheels/{wheel.name} && {use}"

    assert "42" == image.shell(script, f"--volume={tmp_path}:/wheels:ro").strip()


@BOTH
def test_the_commands_run_in_the_image(image):
    """``docker run IMAGE schema`` is the command of that name."""
    schema = json.loads(image.python("from bundleserver.cli import main; main(['schema'])"))

    assert "object" == schema["type"]
