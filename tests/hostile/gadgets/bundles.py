"""Directories of torch and MLflow: code beside a model, archives with pickles inside."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from tests.hostile.gadgets.writing import add_files, dumps, mkdir, source

X = torch.zeros(1, 3)
_WEIGHTS_ONLY = "torch's own unpickler takes weights only"


def _archive(directory: Path) -> Path:
    """Write what torch.save would, with a pickle of our own."""
    path = directory / "model.pt"
    honest = io.BytesIO()
    torch.save(torch.nn.Linear(3, 1).state_dict(), honest)
    _replaced(honest.getvalue(), path, "data.pkl", dumps(mkdir(str(directory / "canary")), 2))
    return path


def _replaced(archive: bytes, path: Path, ending: str, content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(path, "w") as new:
        found = False
        for name in old.namelist():
            ours = name.endswith(ending)
            found |= ours
            new.writestr(name, content if ours else old.read(name))
        if not found:
            new.writestr(f"{old.namelist()[0].partition('/')[0]}/{ending}", content)


def _legacy(directory: Path) -> Path:
    path = directory / "model.pt"
    path.write_bytes(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + pickle.dumps({"little_endian": True}, 2)
        + dumps(mkdir(str(directory / "canary")), 2)
        + pickle.dumps([], 2)
    )
    return path


def _legacy_header(directory: Path) -> Path:
    path = directory / "model.pt"
    path.write_bytes(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2) + dumps(mkdir(str(directory / "canary")), 2)
    )
    return path


def _tar(directory: Path) -> Path:
    path = directory / "model.pt"
    evil = dumps(mkdir(str(directory / "canary")), 2)
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            entry = tarfile.TarInfo(name)
            entry.size = len(evil)
            archive.addfile(entry, io.BytesIO(evil))
    return path


class _Whole(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (self.path,)


def _whole(directory: Path) -> Path:
    path = directory / "model.pt"
    torch.save(_Whole(str(directory / "canary")), path)
    return path


class _Writes(torch.nn.Module):
    """Maps a file that it makes."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path: str = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file(self.path, True, 3)


def _script(directory: Path) -> Path:
    path = directory / "model.pt"
    torch.jit.script(_Writes(str(directory / "canary"))).save(str(path))
    return path


class _Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def _exported() -> bytes:
    written = io.BytesIO()
    torch.export.save(torch.export.export(_Linear(), (X,)), written)
    return written.getvalue()


def _exported_with(ending: str) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        path = directory / "model.pt2"
        evil = io.BytesIO()
        torch.save(_Whole(str(directory / "canary")), evil)
        archive = _exported()
        with zipfile.ZipFile(io.BytesIO(archive)) as old:
            names = [name for name in old.namelist() if name.endswith(ending)]
        _replaced(archive, path, names[0] if names else ending, evil.getvalue())
        return path

    return write


def _exported_with_text(old: str, new: str) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        path = directory / "model.pt2"
        with (
            zipfile.ZipFile(io.BytesIO(_exported())) as archive,
            zipfile.ZipFile(path, "w") as made,
        ):
            for name in archive.namelist():
                data = archive.read(name)
                if name.endswith("model.json"):
                    evil = source(str(directory / "canary")).replace('"', '\\"')
                    data = data.replace(old.encode(), new.replace("EVIL", evil).encode())
                made.writestr(name, data)
        return path

    return write


add_files("torch_archive", _archive, framework="torch", theoretical=_WEIGHTS_ONLY)
add_files("torch_legacy", _legacy, framework="torch", theoretical=_WEIGHTS_ONLY)
add_files("torch_legacy_header", _legacy_header, framework="torch", theoretical=_WEIGHTS_ONLY)
add_files("torch_tar", _tar, framework="torch", theoretical=_WEIGHTS_ONLY)
add_files("torch_whole_module", _whole, framework="torch", theoretical=_WEIGHTS_ONLY)
add_files("torchscript_makes_a_file", _script, framework="torch", uses=("call",))
add_files(
    "exported_with_evil_sample_inputs", _exported_with("sample_inputs/model.pt"), framework="torch"
)
for _ending in ("constants/constants.pt", "weights/weights.pt"):
    add_files(
        f"exported_with_evil_{_ending.replace('/', '_')}",
        _exported_with(_ending),
        framework="torch",
        theoretical="torch 2.13 opens no such file",
    )
add_files(
    "exported_operator_of_python",
    _exported_with_text("torch.ops.aten.linear.default", "os.system"),
    framework="torch",
    theoretical="torch knows no such operator",
)


def _mlflow(directory: Path, flavour: str, **files: bytes) -> Path:
    path = directory / "model"
    path.mkdir()
    (path / "MLmodel").write_text(
        "artifact_path: model\nflavors:\n  python_function:\n" + flavour, "utf-8"
    )
    for name, content in files.items():
        target = path / name.replace("__", "/")
        target.parent.mkdir(exist_ok=True)
        target.with_suffix(".pkl" if target.suffix == "" else "").write_bytes(content)
    return path


def _python_model(directory: Path) -> Path:
    return _mlflow(
        directory,
        "    loader_module: mlflow.pyfunc.model\n    python_model: python_model.pkl\n"
        "    cloudpickle_version: 3.1.2\n    python_version: 3.11.7\n",
        python_model=dumps(mkdir(str(directory / "canary"))),
    )


def _own_module(name: str, text: str) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        path = _mlflow(directory, f"    loader_module: {name}\n    code: code\n    data: data\n")
        (path / "code").mkdir()
        (path / "data").mkdir()
        evil = source(str(directory / "canary"))
        (path / "code" / f"{name}.py").write_text(text.replace("EVIL", evil), "utf-8")
        return path

    return write


def _sklearn_flavour(directory: Path) -> Path:
    return _mlflow(
        directory,
        "    loader_module: mlflow.sklearn\n    model_path: model.pkl\n    python_version: 3.11.7\n"
        "  sklearn:\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\n",
        model=dumps(mkdir(str(directory / "canary"))),
    )


add_files("mlflow_python_model", _python_model, framework="pyfunc")
add_files("mlflow_sklearn_flavour", _sklearn_flavour, framework="pyfunc")
add_files("mlflow_loader_of_its_own", _own_module("own_loader", "EVIL\n"), framework="pyfunc")
add_files(
    "mlflow_loader_runs",
    _own_module("own_loader", "def _load_pyfunc(path):\n    EVIL\n"),
    framework="pyfunc",
)


def _loader_of_python(module: str) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        path = _mlflow(directory, f"    loader_module: {module}\n    data: data\n")
        (path / "data").mkdir()
        return path

    return write


for _module in ("os", "shutil", "mlflow.pyfunc"):
    add_files(
        f"mlflow_loader_{_module}",
        _loader_of_python(_module),
        framework="pyfunc",
        theoretical="it has no function that loads",
    )
add_files(
    "mlflow_loader_imported",
    _loader_of_python("this"),
    framework="pyfunc",
    ran="'this' in __import__('sys').modules",
)
