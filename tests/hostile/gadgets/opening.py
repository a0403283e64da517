"""Open gadgets under each policy, in processes that end once one has changed them.

Run as ``python -m tests.hostile.gadgets.opening DIRECTORY POLICY…``: a line of JSON for each.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SECONDS = 20
_BYTES = 3 << 30


def main() -> None:
    """Open all gadgets of the corpus."""
    root = Path(sys.argv[1])
    _import_all()
    for policy in sys.argv[2:]:
        _open_all(policy, root)


def _open_all(policy: str, root: Path) -> None:
    from tests.hostile.gadgets.corpus import GADGETS

    left = [
        name
        for name, gadget in sorted(GADGETS.items())
        if policy != "any" or not gadget.theoretical.startswith("would")
    ]
    while left:
        for line in _in_a_process(left, policy, root):
            sys.stdout.write(json.dumps({"policy": policy, **line}) + "\n")
            sys.stdout.flush()
            left.remove(line["name"])


def _import_all() -> None:
    import joblib  # noqa: F401
    import scipy.stats  # noqa: F401
    import statsmodels.formula.api  # noqa: F401

    import bundleserver.frameworks.pickles
    import bundleserver.frameworks.pyfunc.framework
    import bundleserver.frameworks.sklearn.framework
    import bundleserver.frameworks.torch.framework  # noqa: F401


def _in_a_process(names: list[str], policy: str, root: Path) -> Iterator[dict[str, Any]]:
    """Open gadgets in a new process, as long as none of them changes it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            _bound()
            _open_many(names, policy, root, write)
        finally:
            os._exit(0)
    os.close(write)
    at, is_changed = 0, False
    with os.fdopen(read, "rb") as answers:
        for answer in answers:
            line = json.loads(answer)
            at, is_changed = at + 1, line["last"]
            yield line
    _, status = os.waitpid(child, 0)
    if at < len(names) and not is_changed:
        yield {
            "name": names[at],
            "outcome": "died",
            "message": f"status {status}",
            "ran": False,
            "canary": [],
            "seconds": 0,
        }


def _bound() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + _BYTES, size + _BYTES))
    with Path(os.devnull).open("w") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)


def _open_many(names: list[str], policy: str, root: Path, write: int) -> None:
    from tests.hostile.gadgets.corpus import GADGETS

    for name in names:
        directory = root / name
        for left in directory.glob("canary*"):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        signal.alarm(_SECONDS)
        began = time.monotonic()
        said = _open(name, policy, directory)
        is_changed = said["ran"] or bool(GADGETS[name].prepare)
        made = [path.name for path in directory.glob("canary*")]
        seconds = round(time.monotonic() - began, 2)
        line = {"name": name, **said, "seconds": seconds, "canary": made, "last": is_changed}
        os.write(write, json.dumps(line).encode() + b"\n")
        if is_changed:
            return


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
