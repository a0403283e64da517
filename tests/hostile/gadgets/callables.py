"""Calls that happen by way of something else: objects with ``__call__``, iteration, methods."""

from __future__ import annotations

from tests.hostile.gadgets.writing import Call, Name, New, State, add, many, mkdir, source

_MKDIR = Name("os.mkdir")


def _partial(*args: object, **keywords: object) -> Call:
    return Call(Name("functools.partial"), *args, state=(args[0], args[1:], keywords, None))


def _listed(iterator: object) -> Call:
    return Call(Name("builtins.list"), iterator)


def _path(path: str) -> Call:
    return Call(Name("pathlib.PosixPath"), path)


add("partial_called", lambda path: Call(_partial(_MKDIR, path)))
add("partial_made_by_new", lambda path: Call(New(Name("functools.partial"), _MKDIR, path)))
add(
    "partial_with_another_function_in_its_state",
    lambda path: Call(
        Call(Name("functools.partial"), Name("builtins.int"), state=(_MKDIR, (path,), {}, None))
    ),
)
add("partial_of_a_partial", lambda path: Call(_partial(_partial(_MKDIR, path))))
add(
    "partial_as_a_factory",
    lambda path: Call(
        Name("operator.getitem"), Call(Name("collections.defaultdict"), _partial(_MKDIR, path)), 1
    ),
)
add("methodcaller", lambda path: Call(Call(Name("operator.methodcaller"), "mkdir"), _path(path)))
add(
    "methodcaller_by_new",
    lambda path: Call(New(Name("operator.methodcaller"), "mkdir"), _path(path)),
)
add(
    "attrgetter_of_a_module",
    lambda path: Call(
        Call(
            Call(Name("operator.attrgetter"), "os.mkdir"),
            Call(Name("builtins.__import__"), "shutil"),
        ),
        path,
    ),
)
add(
    "attrgetter_of_a_function",
    lambda path: Call(
        Call(
            Call(Name("operator.itemgetter"), "exec"),
            Call(
                Call(Name("operator.itemgetter"), "__builtins__"),
                Call(Call(Name("operator.attrgetter"), "__globals__"), Name("os.makedirs")),
            ),
        ),
        source(path),
    ),
)
add("operator_call", lambda path: Call(Name("operator.call"), _MKDIR, path))
add("reduce", lambda path: Call(Name("functools.reduce"), _MKDIR, [path, 511]))
add("map_in_a_list", lambda path: _listed(Call(Name("builtins.map"), _MKDIR, [path])))
add(
    "map_in_a_set",
    lambda path: Call(Name("builtins.set"), Call(Name("builtins.map"), _MKDIR, [path])),
)
add("map_by_new", lambda path: _listed(New(Name("builtins.map"), _MKDIR, [path])))
add(
    "map_in_a_deque",
    lambda path: Call(Name("collections.deque"), Call(Name("builtins.map"), _MKDIR, [path])),
)
add(
    "map_in_a_bytearray",
    lambda path: Call(Name("builtins.bytearray"), Call(Name("builtins.map"), _MKDIR, [path])),
)
add("filter", lambda path: _listed(Call(Name("builtins.filter"), _MKDIR, [path])))
add("starmap", lambda path: _listed(Call(Name("itertools.starmap"), _MKDIR, [(path, 511)])))
add("accumulate", lambda path: _listed(Call(Name("itertools.accumulate"), [path, 511], _MKDIR)))
add("groupby", lambda path: _listed(Call(Name("itertools.groupby"), [path], _MKDIR)))
add("iter_until", lambda path: _listed(Call(Name("builtins.iter"), _partial(_MKDIR, path), None)))
add("bound_method", lambda path: Call(Call(Name("types.MethodType"), _MKDIR, path)))
add("lru_cache", lambda path: Call(Call(Call(Name("functools.lru_cache")), _MKDIR), path))
add(
    "thread",
    lambda path: many(
        Call(
            Name("Thread.run", "threading"),
            Call(Name("threading.Thread"), None, _MKDIR, None, (path,)),
        )
    ),
)
add(
    "executor",
    lambda path: Call(
        Name("Future.result", "concurrent.futures"),
        Call(
            Name("ThreadPoolExecutor.submit", "concurrent.futures"),
            Call(Name("concurrent.futures.ThreadPoolExecutor"), 1),
            _MKDIR,
            path,
        ),
    ),
)
add("exit_stack", lambda path: Call(Name("ExitStack.close", "contextlib"), _stack(path)))
add(
    "context_runs",
    lambda path: Call(
        Name("Context.run", "contextvars"), Call(Name("contextvars.copy_context")), _MKDIR, path
    ),
)
add(
    "asyncio_run",
    lambda path: Call(Name("asyncio.run"), Call(Name("asyncio.to_thread"), _MKDIR, path)),
)
add("vectorized", lambda path: Call(Call(Name("numpy.vectorize"), _MKDIR, ["O"]), path))
add("frompyfunc", lambda path: Call(Call(Name("numpy.frompyfunc"), _MKDIR, 1, 1), path))
add(
    "apply_along_axis",
    lambda path: Call(
        Name("numpy.apply_along_axis"), _partial(Name("numpy.save"), path + ".npy"), 0, [1.0]
    ),
)
add(
    "fromfunction",
    lambda path: Call(
        Name("numpy.fromfunction"), _partial(Name("numpy.save"), path + ".npy"), (2,)
    ),
)
add(
    "series_map",
    lambda path: Call(
        Name("Series.map", "pandas.core.series"),
        Call(Name("pandas.core.series.Series"), [path]),
        _MKDIR,
    ),
)
add(
    "series_apply",
    lambda path: Call(
        Name("Series.apply", "pandas.core.series"),
        Call(Name("pandas.core.series.Series"), [path]),
        _MKDIR,
    ),
)
add(
    "sklearn_function_wrapper",
    lambda path: Call(
        State(
            New(Name("sklearn.utils.parallel._FuncWrapper")),
            {"function": _MKDIR, "config": {}, "warning_filters": []},
        ),
        path,
    ),
)
add(
    "scipy_optimizes",
    lambda path: Call(
        Name("scipy.optimize.minimize"), _partial(Name("numpy.savetxt"), path), [1.0]
    ),
)
add(
    "scipy_integrates",
    lambda path: Call(
        Name("scipy.integrate.quad"), _partial(Name("numpy.save"), path + ".npy"), 0, 1
    ),
)
add(
    "statsmodels_differentiates",
    lambda path: Call(
        Name("statsmodels.tools.numdiff.approx_fprime"),
        [1.0],
        _partial(Name("numpy.savetxt"), path),
    ),
)
add(
    "sklearn_scorer",
    lambda path: Call(
        State(New(Name("sklearn.metrics._scorer._PassthroughScorer")), {"_estimator": 1}),
        Call(Name("types.SimpleNamespace"), state={"score": _partial(_MKDIR, path)}),
    ),
)
add(
    "metaclass_makes_a_class",
    lambda path: Call(Call(Name("builtins.type"), "X", (), {"__init__": _partial(_MKDIR, path)})),
)
add(
    "subclass_is_told",
    lambda path: Call(
        Name("builtins.type"),
        "X",
        (Call(Name("builtins.type"), "Y", (), {"__init_subclass__": _partial(_MKDIR, path)}),),
        {},
    ),
)
add(
    "descriptor_is_told",
    lambda path: Call(
        Name("builtins.type"),
        "X",
        (),
        {
            "a": Call(
                Call(
                    Name("builtins.type"),
                    "Y",
                    (),
                    {"__set_name__": _partial(Name("numpy.save"), path + ".npy")},
                )
            )
        },
    ),
)
add(
    "hash_of_a_key",
    lambda path: {
        Call(Call(Name("builtins.type"), "X", (), {"__hash__": _partial(_MKDIR, path)})): 1
    },
)
add(
    "reconstructor_makes_it",
    lambda path: Call(
        Name("copyreg._reconstructor"),
        Call(
            Name("builtins.type"),
            "X",
            (Name("builtins.int"),),
            {"__init__": _partial(Name("builtins.exec"), source(path), {})},
        ),
        Name("builtins.int"),
        1,
    ),
    theoretical="int's own __init__ is compared, and is another",
)
add(
    "state_set_by_an_object_of_another",
    lambda path: State(Call(Call(Name("builtins.type"), "X", (), {"__setstate__": _MKDIR})), path),
)
add(
    "appended_by_an_object_of_another",
    lambda path: State(
        Call(Call(Name("builtins.type"), "X", (), {"append": _MKDIR})), path, code=b"a"
    ),
)
add(
    "extended_by_an_object_of_another",
    lambda path: State(
        Call(Call(Name("builtins.type"), "X", (), {"append": _MKDIR})), path, code=b"e"
    ),
)
add(
    "added_by_an_object_of_another",
    lambda path: State(
        Call(Call(Name("builtins.type"), "X", (), {"add": _MKDIR})), path, code=b"\x90"
    ),
)
add(
    "item_set_by_an_object_of_another",
    lambda path: State(
        Call(Call(Name("builtins.type"), "X", (), {"__setitem__": _MKDIR})), path, 511, code=b"s"
    ),
)


def _stack(path: str) -> Call:
    stack = Call(Name("contextlib.ExitStack"))
    return Call(
        Name("builtins.next"),
        Call(
            Name("builtins.iter"),
            [stack, Call(Name("ExitStack.callback", "contextlib"), stack, _MKDIR, path)],
        ),
    )


add(
    "default_factory_of_a_counter",
    lambda path: Call(
        Name("defaultdict.__missing__", "collections"),
        Call(Name("collections.defaultdict"), _partial(_MKDIR, path)),
        1,
    ),
)
add(
    "callback_of_a_dead_reference",
    lambda path: State(
        [Call(Name("weakref.ref"), Call(Name("builtins.set")), _partial(_MKDIR, path))],
        1,
        code=b"a",
    ),
    theoretical="the memo keeps the object alive, and the callback gets an argument",
)
add("honest_object_and_call", lambda path: [Call(Name("collections.OrderedDict")), mkdir(path)])
