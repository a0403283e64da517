"""Functions that do harm by themselves, under their own names and behind other modules' names."""

from __future__ import annotations

import marshal
import pickle

import cloudpickle

from tests.hostile.gadgets.writing import Call, Name, New, add, dumps, many, mkdir, source


def _shell(path: str) -> str:
    return f"mkdir '{path}'"


_NESTED = {
    "os": "path.os.mkdir",
    "numpy": "testing._private.utils.os.mkdir",
    "numpy.f2py": "os.mkdir",
    "numpy.testing._private.utils": "os.mkdir",
    "pandas.io.common": "os.mkdir",
    "pandas": "io.common.os.mkdir",
    "joblib.disk": "os.mkdir",
    "joblib": "disk.os.mkdir",
    "sklearn.datasets._base": "os.mkdir",
    "sklearn.utils._testing": "os.mkdir",
    "scipy._lib._util": "inspect.os.mkdir",
    "torch.utils._config_module": "os.mkdir",
    "torch.serialization": "os.mkdir",
    "threadpoolctl": "os.mkdir",
    "cmdstanpy.utils": "os.mkdir",
    "logging": "os.mkdir",
    "sklearn.pipeline": "np.f2py.os.mkdir",
    "sklearn.tree._classes": "np.f2py.os.mkdir",
}
for _module, _qualname in _NESTED.items():
    add(
        f"nested_{_module}_{_qualname}",
        lambda path, module=_module, name=_qualname: Call(Name(name, module), path),
    )
for _module, _qualname in (("os", "path.os.mkdir"), ("numpy", "testing._private.utils.os.mkdir")):
    add(
        f"nested_global_of_protocol_4_{_module}",
        lambda path, module=_module, name=_qualname: (
            b"\x80\x04" + pickle.GLOBAL + f"{module}\n{name}\n(V{path}\ntR.".encode()
        ),
    )

_BY_NAME = {
    "os.system": lambda path: (_shell(path),),
    "posix.system": lambda path: (_shell(path),),
    "os.makedirs": lambda path: (path,),
    "os.symlink": lambda path: ("/", path),
    "os.mkfifo": lambda path: (path,),
    "os.spawnlp": lambda path: (0, "mkdir", "mkdir", path),
    "pty.spawn": lambda path: (["mkdir", path],),
    "subprocess.call": lambda path: (["mkdir", path],),
    "subprocess.check_output": lambda path: (["mkdir", path],),
    "subprocess.getoutput": lambda path: (_shell(path),),
    "builtins.exec": lambda path: (source(path),),
    "builtins.eval": lambda path: (source(path),),
    "builtins.open": lambda path: (path, "w"),
    "io.open": lambda path: (path, "w"),
    "_io.FileIO": lambda path: (path, "w"),
    "codecs.open": lambda path: (path, "w"),
    "timeit.timeit": lambda path: ("pass", source(path), __import__("time").sleep, 1),
    "timeit.repeat": lambda path: ("pass", source(path), __import__("time").sleep, 1, 1),
    "cProfile.run": lambda path: (source(path), path + ".profile"),
    "profile.run": lambda path: (source(path), path + ".profile"),
    "runpy._run_code": lambda path: (Call(Name("builtins.compile"), source(path), "x", "exec"), {}),
    "logging.FileHandler": lambda path: (path,),
    "logging.config.dictConfig": lambda path: (
        {"version": 1, "handlers": {"h": {"()": "os.mkdir", "path": path}}},
    ),
    "shutil.copyfile": lambda path: ("/etc/hostname", path),
    "shutil.copytree": lambda path: ("/etc/skel", path),
    "tempfile.mkdtemp": lambda path: ("", "canary", path.removesuffix("canary")),
    "urllib.request.urlretrieve": lambda path: ("file:///etc/hostname", path),
    "zipfile.ZipFile": lambda path: (path, "w"),
    "tarfile.open": lambda path: (path, "w"),
    "shelve.open": lambda path: (path,),
    "numpy.save": lambda path: (path + ".npy", [1]),
    "numpy.savetxt": lambda path: (path, [1]),
    "numpy.memmap": lambda path: (path, "uint8", "w+", 0, (4,)),
    "numpy.lib.format.open_memmap": lambda path: (path, "w+", "f8", (1,)),
    "numpy.testing._private.utils.runstring": lambda path: (source(path), {}),
    "numpy.f2py.crackfortran.myeval": lambda path: (source(path),),
    "joblib.dump": lambda path: ([1], path),
    "joblib.memory.Memory": lambda path: (path,),
    "joblib.disk.mkdirp": lambda path: (path,),
    "scipy.io.savemat": lambda path: (path, {"a": 1}),
    "sympy.sympify": lambda path: (source(path),),
    "sympy.parsing.sympy_parser.parse_expr": lambda path: (source(path),),
    "patsy.dmatrix": lambda path: (f"I({source(path)})",),
    "torch.save": lambda path: ([1], path),
    "mlflow.utils.file_utils.mkdir": lambda path: (path,),
}
for _full, _args in _BY_NAME.items():
    add(f"call_{_full}", lambda path, full=_full, args=_args: Call(Name(full), *args(path)))

_INNER = {
    "pickle.loads": lambda data: (data,),
    "_pickle.loads": lambda data: (data,),
    "pickle._loads": lambda data: (data,),
    "cloudpickle.loads": lambda data: (data,),
    "pickle.load": lambda data: (Call(Name("io.BytesIO"), data),),
    "joblib.load": lambda data: (Call(Name("io.BytesIO"), data),),
    "pandas.read_pickle": lambda data: (Call(Name("io.BytesIO"), data),),
    "statsmodels.iolib.smpickle.load_pickle": lambda data: (Call(Name("io.BytesIO"), data),),
}
for _full, _args in _INNER.items():
    add(
        f"inner_{_full}",
        lambda path, full=_full, args=_args: Call(Name(full), *args(dumps(mkdir(path)))),
    )
add(
    "inner_multiprocessing",
    lambda path: Call(
        Name("ForkingPickler.loads", "multiprocessing.reduction"), dumps(mkdir(path))
    ),
)


def _file_that_is_opened(path: str) -> str:
    inner = path.removesuffix("canary") + "inner"
    with open(inner, "wb") as file:  # noqa: PTH123 - a path is a string in pickles
        file.write(dumps(mkdir(path)))
    return inner


add(
    "numpy_load_of_another_file",
    lambda path: Call(Name("numpy.load"), _file_that_is_opened(path), None, True),
)
add(
    "pandas_read_of_another_file",
    lambda path: Call(Name("pandas.read_pickle"), _file_that_is_opened(path)),
)
add(
    "joblib_load_of_another_file",
    lambda path: Call(Name("joblib.load"), _file_that_is_opened(path)),
)


class _Calls:
    def __init__(self, function: object, *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.args  # type: ignore[return-value]  # any callable


def _by_value(path: str) -> bytes:
    def run() -> None:
        __import__("os").mkdir(path)

    run.__module__ = "__main__"
    return cloudpickle.dumps(_Calls(run))


def _code(path: str) -> bytes:
    return marshal.dumps(compile(source(path), "x", "exec"))


add("cloudpickle_by_value", _by_value)
add(
    "cloudpickle_class_by_value",
    lambda path: cloudpickle.dumps(
        _Calls(
            type(
                "Own",
                (),
                {"__module__": "__main__", "__init__": lambda self: __import__("os").mkdir(path)},
            )
        )
    ),
)
add(
    "cloudpickle_subimport",
    lambda path: Call(
        Call(
            Name("getattr", "builtins"),
            Call(Name("cloudpickle.cloudpickle.subimport"), "os"),
            "mkdir",
        ),
        path,
    ),
)
add(
    "marshalled_function",
    lambda path: Call(
        Call(
            Name("types.FunctionType"),
            Call(Name("marshal.loads"), _code(path)),
            {
                "__builtins__": Call(
                    Name("builtins.vars"), Call(Name("builtins.__import__"), "builtins")
                )
            },
        )
    ),
)
add(
    "import_then_getattr",
    lambda path: Call(
        Call(Name("builtins.getattr"), Call(Name("builtins.__import__"), "os"), "mkdir"), path
    ),
)
add(
    "importlib_then_getattr",
    lambda path: Call(
        Call(Name("builtins.getattr"), Call(Name("importlib.import_module"), "os"), "mkdir"), path
    ),
)
add(
    "modules_then_getattr",
    lambda path: Call(
        Call(
            Name("builtins.getattr"),
            Call(Name("operator.getitem"), Name("sys.modules"), "os"),
            "mkdir",
        ),
        path,
    ),
)
add("pydoc_locate", lambda path: Call(Call(Name("pydoc.locate"), "os.mkdir"), path))
add("pkgutil_resolve_name", lambda path: Call(Call(Name("pkgutil.resolve_name"), "os:mkdir"), path))
add(
    "ctypes_function",
    lambda path: Call(
        Call(Name("builtins.getattr"), Call(Name("ctypes.CDLL"), None), "mkdir"), path.encode(), 511
    ),
)
add(
    "interpreter_runs_source",
    lambda path: Call(
        Call(Name("builtins.getattr"), Call(Name("code.InteractiveInterpreter")), "runsource"),
        source(path),
    ),
)
add(
    "console_pushes_source",
    lambda path: Call(
        Name("InteractiveConsole.push", "code"), Call(Name("code.InteractiveConsole")), source(path)
    ),
)
add(
    "debugger_runs_source",
    lambda path: Call(Name("Trace.run", "trace"), Call(Name("trace.Trace"), 0, 0), source(path)),
)
add(
    "path_makes_itself",
    lambda path: Call(Name("Path.mkdir", "pathlib"), Call(Name("pathlib.PosixPath"), path)),
)
add(
    "path_writes_text",
    lambda path: Call(
        Name("Path.write_text", "pathlib"), Call(Name("pathlib.PosixPath"), path), "x"
    ),
)
add(
    "globals_of_a_method",
    lambda path: Call(
        Call(
            Name("dict.get", "builtins"),
            Call(
                Name("dict.get", "builtins"),
                Name("Pipeline.fit.__globals__", "sklearn.pipeline"),
                "__builtins__",
            ),
            "exec",
        ),
        source(path),
    ),
)
add(
    "table_writes_a_file",
    lambda path: Call(
        Name("DataFrame.to_csv", "pandas.core.frame"),
        Call(Name("pandas.core.frame.DataFrame"), {"a": [1]}),
        path,
    ),
)
add(
    "table_is_piped",
    lambda path: Call(
        Name("DataFrame.pipe", "pandas.core.frame"),
        Call(Name("pandas.core.frame.DataFrame"), {"a": [1]}),
        (Name("numpy.savetxt"), "X"),
        path,
    ),
)
add("in_two_steps", lambda path: many(Call(Name("os.makedirs"), path + "/a"), mkdir(path + "/b")))
add("memmap_by_new", lambda path: New(Name("numpy.memmap"), path, "uint8", "w+", 0, (4,)))
