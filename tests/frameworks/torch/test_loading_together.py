from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.torch import framework
from bundleserver.tensors import NamedTensor

TOGETHER = 16
ROWS = np.random.default_rng(3).normal(size=(2, 3)).astype(np.float32)


def exported(path, scale: float):
    """Write an exported program that multiplies by a number."""
    shapes = ({0: torch.export.Dim("rows")},)
    program = torch.export.export(Scaled(scale), (torch.zeros(3, 3),), dynamic_shapes=shapes)
    torch.export.save(program, str(path))


def scripted(path, scale: float):
    """Write a TorchScript program that multiplies by a number."""
    torch.jit.script(Scaled(scale)).save(str(path))


def checkpoint(path, scale: float):
    """Write an autoencoder beside a number of numpy's, which torch reads only if it is told to."""
    tensors = {}
    for part in ("encoder", "decoder"):
        network = nn.LSTM(3, 3, batch_first=True)
        tensors |= {
            f"{part}.{k}": torch.full_like(v, scale) for k, v in network.state_dict().items()
        }
    torch.save({"model": tensors, "loss": np.float64(scale)}, path)


class Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


@pytest.mark.parametrize("write", [exported, scripted, checkpoint])
def test_many_files_open_at_the_same_time(tmp_path, write):
    """Loads of several threads disturb each other in no kind of file; each opens its own."""
    paths = [tmp_path / f"{index}.model" for index in range(TOGETHER)]
    for index, path in enumerate(paths):
        write(path, (index + 1) / TOGETHER)
    barrier = threading.Barrier(TOGETHER, timeout=60)

    def answer(path) -> np.ndarray:
        barrier.wait()
        predictor = framework.load(path, LoadContext())
        return predictor.call("predict", [NamedTensor("x", ROWS)], {})[0]

    with ThreadPoolExecutor(TOGETHER) as threads:
        together = list(threads.map(answer, paths, timeout=120))
    barrier = threading.Barrier(1)
    assert all(np.array_equal(answer(path), one) for path, one in zip(paths, together, strict=True))
    assert TOGETHER == len({one.tobytes() for one in together})
