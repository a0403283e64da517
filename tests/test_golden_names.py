"""The names that scripts, dashboards and manifests of others depend on, collected from a run.

``golden_names.json`` lists them. A name may be added; then the file says so, on purpose:
``python -m tests.test_golden_names`` adds what is new and takes nothing away. A name that is gone
or means something else breaks whoever uses it.
"""

from __future__ import annotations

import inspect
import json
import signal
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import typer
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bundleserver import errors
from bundleserver.cli import app
from bundleserver.commands.flags.table import FLAGS
from bundleserver.manifest import manifest_schema
from bundleserver.serving.errors import answer_for
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.settings import Settings
from bundleserver.store import BundleStore
from bundleserver.versions.canary import CanaryRules
from bundleserver.versions.lifecycle import State, SwapPolicy
from bundleserver.versions.serving_config import ServingConfig
from tests.end_to_end.processes import ServerProcess, command, eventually, running
from tests.end_to_end.published import Detector

GOLDEN = Path(__file__).with_name("golden_names.json")

ROWS = {"instances": [[0.5, 0.3, 0.8]]}
NOT_OURS = ("requirements", "accelerated")
"""What stands below these keys depends on libraries and on how fast they are here."""

Names = dict[str, dict[str, object]]
"""By group: names, and the defaults, labels or codes that belong to them; None where none do."""


def collect(root: Path) -> Names:
    """Collect every name, in groups, from schemas, flags and one server that does everything."""
    write_store(root)
    names: Names = {
        "states": {state.value: None for state in State},
        "swap policies": {policy.value: None for policy in SwapPolicy},
        "flags": dict(flags()),
        "errors": dict(statuses()),
        "exit codes": dict(exit_codes(root)),
        "manifest.json": dict.fromkeys(schema_keys(manifest_schema(), manifest_schema())),
        "serving.json": keys(json.loads(FULL_CONFIG.to_json())),
        "inspect --json": keys(command("inspect", root, "--json").document),
    }
    with running(root) as server:
        names |= served(server)
        server.send(signal.SIGTERM)
        names["exit codes"]["serve, after SIGTERM"] = server.exit_code()
    return names


FULL_CONFIG = ServingConfig(
    policy="all",
    labels={"stable": "v1"},
    default="v1",
    traffic={"v1": 1},
    shadow=("v3",),
    shadow_share=0.5,
    canary=CanaryRules("v2", max_p99_ratio=9.0, min_agreement=0.5),
)


def write_store(root: Path) -> None:
    """Save a model with a canary, a shadow and a broken version, and one whose share is broken."""
    store = BundleStore(root)
    for name, versions in (("detector", 4), ("split", 2)):
        for seed in range(versions):
            Detector(seed).save(store, name, metrics={"auc": 0.9})
        with next(store.path(name, f"v{versions}").glob("model.*")).open("ab") as file:
            file.write(b"!")
    canary = {"version": "v2", "min_agreement": 0.5}
    configs = {
        "detector": {"labels": {"stable": "v1"}, "shadow": ["v3"], "canary": canary},
        "split": {"traffic": {"v2": 1}},
    }
    for name, config in configs.items():
        document = {"policy": "all", "default": "v1", **config}
        (root / name / "serving.json").write_text(json.dumps(document))


def served(server: ServerProcess) -> Names:
    """Collect what a server says, when every kind of metric has counted something."""
    for model in ("detector", "split"):
        server.wait_until_ready(model, "v1")
    server.wait_until_ready("detector", "v2")
    server.wait_until_ready("detector", "v3")
    answers = {
        "V1 answer": server.predict("detector", ROWS),
        "V2 answer": infer(server),
        "error": server.predict("detector", ROWS, "v9"),
        "metadata": eventually(lambda: with_canary_compared(server), "answers are compared"),
        "server metadata": server.get("/v2"),
        "index": server.post("/v2/repository/index"),
        "models": server.get("/v1/models"),
        "ready": server.get("/v2/models/detector/ready"),
    }
    names: Names = {kind: keys(answer.json()) for kind, answer in answers.items()}
    asked = command("inspect", "--url", server.rest, "--json").document
    names["inspect --url --json"] = keys(asked, told=(*NOT_OURS, *answers["metadata"].json()))
    server.predict("split", ROWS)
    names["metrics"] = {**metrics(server.get("/metrics").text), **metrics(pool_metrics())}
    return names


def pool_metrics() -> str:
    """Return the metrics of queue and batches, which a server fills only when it is slow."""
    registry = CollectorRegistry()
    counted = RequestMetrics(registry)
    counted.waited("detector", 0.1)
    counted.called("detector", "v1", 2, 2)
    return generate_latest(registry).decode()


def infer(server: ServerProcess) -> object:
    """Ask with V2 and an id, so that the answer has it."""
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, 3], "data": ROWS["instances"]}
    return server.infer("detector", tensor, id="7")


def with_canary_compared(server: ServerProcess) -> object:
    """Ask once more; return the metadata when canary and shadow both have been compared."""
    server.predict("detector", ROWS)
    answer = server.get("/v2/models/detector")
    traffic = answer.json()["traffic"]
    compared = [pair for pair in traffic["shadow"] if pair["outputs"]]
    return answer if len(compared) == 3 else None


def metrics(text: str) -> dict[str, object]:
    """Return the type and labels of every metric of ours, and the states that some list."""
    found: dict[str, object] = {}
    for family in text_string_to_metric_families(text):
        is_ours = family.name.startswith(("bundleserver_", "request_p"))
        if not is_ours or family.name.endswith("_created") or not family.samples:
            continue
        labels = {name for sample in family.samples for name in sample.labels}
        found[family.name] = f"{family.type} {sorted(labels)}"
        if family.name.endswith(("_state", "_copies")):
            for label in {"state", "outcome"} & labels:
                words = {sample.labels[label] for sample in family.samples}
                found |= {f"{family.name} {label}={word}": None for word in words}
    return found


def flags() -> Iterator[tuple[str, object]]:
    """Yield every flag and argument of every command, with its default."""
    for name, flag in FLAGS.items():
        yield f"serve {flag.spelling}", plain(getattr(Settings(), name))
    commands = typer.main.get_command(app).commands
    for command_name, found in commands.items():
        for parameter in found.params:
            spelled = [*parameter.opts, *parameter.secondary_opts]
            if parameter.param_type_name == "argument":
                spelled = [f"{parameter.metavar} ({parameter.nargs})"]
            for spelling in spelled:
                yield f"{command_name} {spelling}", plain(parameter.default)


def plain(value: object) -> object:
    """Turn a default into what JSON holds."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(getattr(value, "value", value))


def statuses() -> Iterator[tuple[str, str]]:
    """Yield the REST and gRPC status of every class of error."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    for kind in [*kinds, RuntimeError]:
        if issubclass(kind, Exception) and not kind.__name__.startswith("_"):
            made = getattr(kind.__init__, "__code__", None)
            optional = len(kind.__init__.__defaults__ or ()) if made else 0
            error = kind(*"1" * (made.co_argcount - 1 - optional if made else 1))
            answer = answer_for(error)
            yield kind.__name__, f"{answer.status} {answer.grpc_code}"


def exit_codes(root: Path) -> Iterator[tuple[str, int]]:
    """Yield how commands end: well, with a problem, and with a mistake in what was typed."""
    for words in (
        ["--version"],
        ["validate", "detector/v1"],
        ["validate", "detector/v4"],
        ["validate", "nowhere"],
        ["inspect"],
        ["inspect", "detector"],
        ["compare", "detector", "v1", "v2", "--input", "nowhere"],
        ["promote", "detector", "v9"],
        ["nonsense"],
        ["serve", "--help"],
        ["serve", "--nonsense", "1"],
        ["serve", "--workers", "0"],
    ):
        paths = [str(root / word) if word.startswith("detector") else word for word in words]
        yield " ".join(words), command(*paths).code


def schema_keys(node: object, schema: Mapping[str, object], at: str = "") -> Iterator[str]:
    """Yield the path of every key that a JSON Schema knows; ``*`` is any name, ``[]`` any entry."""
    if not isinstance(node, dict):
        return
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    for name, child in node.get("properties", {}).items():
        yield f"{at}.{name}"
        yield from schema_keys(child, schema, f"{at}.{name}")
    yield from schema_keys(node.get("items"), schema, f"{at}[]")
    yield from schema_keys(node.get("additionalProperties"), schema, f"{at}.*")
    for word in ("if", "then", "else"):
        yield from schema_keys(node.get(word), schema, at)
    for word in ("allOf", "anyOf", "oneOf"):
        for part in node.get(word, ()):
            yield from schema_keys(part, schema, at)


def keys(value: object, at: str = "", told: Collection[str] = NOT_OURS) -> dict[str, object]:
    """Return the path of every key in a document, but of none below the keys told already."""
    found: dict[str, object] = {}
    if isinstance(value, list):
        for item in value:
            found |= keys(item, f"{at}[]", told)
    elif isinstance(value, dict):
        for name, item in value.items():
            found[f"{at}.{name}"] = None
            found |= {} if name in told else keys(item, f"{at}.{name}", told)
    return found


def differences(golden: Names, found: Names) -> list[str]:
    """Say of every name that differs whether it is gone, changed or new."""
    said = []
    for group in sorted({*golden, *found}):
        before, now = golden.get(group, {}), found.get(group, {})
        said += [f"{group}: '{name}' is gone" for name in before if name not in now]
        said += [f"{group}: '{name}' is new" for name in now if name not in before]
        said += [
            f"{group}: '{name}' was {before[name]!r} and is {now[name]!r}"
            for name in before
            if name in now and before[name] != now[name]
        ]
    return said


def test_no_name_that_others_depend_on_is_gone_or_changed(tmp_path):
    """Metrics, flags, keys, states, exit codes and statuses are those of golden_names.json."""
    said = differences(json.loads(GOLDEN.read_text()), collect(tmp_path))

    assert not said, "\n".join(["names differ from golden_names.json:", *said])


def test_a_name_that_is_gone_changed_or_new_is_told():
    """The comparison sees each kind of difference and names it exactly."""
    golden: Names = {"flags": {"a": 1, "b": 2}}

    assert ["flags: 'b' is gone", "flags: 'c' is new", "flags: 'a' was 1 and is 3"] == differences(
        golden, {"flags": {"a": 3, "c": 0}}
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        new = collect(Path(directory))
    old: Names = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    merged = {group: {**new.get(group, {}), **old.get(group, {})} for group in {*new, *old}}
    GOLDEN.write_text(json.dumps(merged, indent=1, sort_keys=True) + "\n")
