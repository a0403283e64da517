"""Open gadgets under one policy, each in a process of its own, and say what became of each.

Run as ``python -m tests.hostile.gadgets.opening POLICY DIRECTORY``; prints a line of JSON for each.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

_SECONDS = 20
_BYTES = 3 << 30


def main() -> None:
    """Open all gadgets of the corpus."""
    policy, root = sys.argv[1], Path(sys.argv[2])
    _import_all()
    from tests.hostile.gadgets.corpus import GADGETS

    for name in sorted(GADGETS):
        directory = root / name
        for left in directory.glob("canary*"):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        began = time.monotonic()
        if policy == "any" and GADGETS[name].theoretical.startswith("would"):
            continue
        said = _in_a_process(name, policy, directory)
        left_over = [path.name for path in directory.glob("canary*")]
        seconds = round(time.monotonic() - began, 2)
        line = {"name": name, **said, "seconds": seconds, "canary": left_over}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _import_all() -> None:
    import joblib  # noqa: F401
    import scipy.stats  # noqa: F401
    import statsmodels.formula.api  # noqa: F401

    import bundleserver.frameworks.pickles
    import bundleserver.frameworks.pyfunc.framework
    import bundleserver.frameworks.sklearn.framework
    import bundleserver.frameworks.torch.framework  # noqa: F401


def _in_a_process(name: str, policy: str, directory: Path) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            signal.alarm(_SECONDS)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (size + _BYTES, size + _BYTES))
            with Path(os.devnull).open("w") as nowhere:
                for number in (1, 2):
                    os.dup2(nowhere.fileno(), number)
            os.write(write, json.dumps(_open(name, policy, directory)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    outcome = json.loads(said) if said else {"outcome": "died", "message": f"status {status}"}
    return dict(outcome)


def _open(name: str, policy: str, directory: Path) -> dict[str, Any]:
    from bundleserver.errors import LoadError
    from tests.hostile.gadgets.corpus import GADGETS

    gadget = GADGETS[name]
    exec(gadget.prepare, {})  # noqa: S102 - ours
    outcome, message = "opened", ""
    try:
        _open_and_use(gadget, policy, directory)
    except LoadError as error:
        outcome, message = "refused", str(error)
    except BaseException as error:  # noqa: BLE001 - anything may come of a gadget
        outcome, message = "failed", f"{type(error).__name__}: {error}"
    ran = eval(gadget.ran, {})  # noqa: S307 - ours
    return {"outcome": outcome, "message": message[:600], "ran": bool(ran)}


def _open_and_use(gadget: Any, policy: str, directory: Path) -> None:
    from bundleserver.frameworks import LoadContext, framework_named, pickles
    from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

    pickles_are = PicklePolicy("listed" if policy == "gate" else policy)
    trust = CodeTrust(pickles=pickles_are, bundle_code=policy == "any")
    path = next(path for path in directory.iterdir() if path.stem == "model")
    if gadget.framework:
        module = framework_named(gadget.framework).imported()
        file = path / "MLmodel" if path.is_dir() else path
        model: Any = module.load(file, LoadContext(trust=trust))
    elif policy == "gate":
        model = _through_the_gate_alone(path, trust)
    else:
        model = pickles.load(path, trust)
    for use in gadget.uses:
        with contextlib.suppress(Exception):  # what it writes counts, not what it answers
            _use(model, use)


def _through_the_gate_alone(path: Path, trust: Any) -> Any:
    """Open a pickle as if the scan before it had seen nothing."""
    from bundleserver.errors import LoadError
    from bundleserver.frameworks.pickles.gate.listed import open_listed

    try:
        return open_listed(path, trust)
    except Exception as error:  # as pickles.load does
        raise LoadError(f"{type(error).__name__}: {error}") from error


def _use(model: Any, use: str) -> None:
    import numpy as np
    import pandas as pd

    from bundleserver.tensors import NamedTensor

    rows = np.full((2, 3), 0.25)
    if use == "transform_text":
        model.transform(["aa bb", "c d"])
    elif use == "transform_one":
        model.transform(rows[:1])
    elif use == "predict_table":
        model.predict(pd.DataFrame({"x": [1.0]}))
    elif use == "get_feature_names_out":
        model.get_feature_names_out()
    elif use == "call":
        method = next(iter(model.methods))
        model.call(method, [NamedTensor("x", rows.astype("f4"))], {})
    else:
        getattr(model, use)(rows)


if __name__ == "__main__":
    main()
