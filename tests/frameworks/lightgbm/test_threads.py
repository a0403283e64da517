"""A call uses as many threads as the server allows its libraries, whatever training used."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.frameworks.lightgbm.trained import KINDS

COUNT = """
import os, sys, threading
from pathlib import Path
import numpy as np
from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.serving.cpus import limit_library_threads
from bundleserver.tensors import NamedTensor

predictor = framework_named("lightgbm").load(Path(sys.argv[1]), LoadContext())
rows = [NamedTensor("x", np.random.default_rng(0).normal(size=(20_000, 4)))]

def ask():
    limit_library_threads(int(sys.argv[2]))
    before = len(os.listdir("/proc/self/task"))
    predictor.call("predict", rows, {})
    print(len(os.listdir("/proc/self/task")) - before)

thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_a_call_has_the_threads_of_the_pools_limit(threads, tmp_path):
    """Those of OpenMP beside the calling one; the limit of the container is set in each thread."""
    KINDS["regression"]().booster.save_model(tmp_path / "model.txt")
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}

    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(tmp_path / "model.txt"), str(threads)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )

    assert threads - 1 == int(done.stdout)
