"""States and items given to what others have too: classes, functions, modules, their dicts."""

from __future__ import annotations

from tests.hostile.gadgets.writing import Call, Name, New, State, add, mkdir

_MKDIR = Name("os.mkdir")
_MODULE = "sklearn._loss.link"
_PREDICTOR = Name("LogitLink", _MODULE)
_MARKED = f"hasattr(__import__('{_MODULE}', fromlist=['x']).LogitLink, 'marked')"

add("slots_of_a_class", lambda path: State(_PREDICTOR, (None, {"marked": 1})), ran=_MARKED)
add(
    "slots_of_a_class_by_getattr",
    lambda path: State(
        Call(
            Name("builtins.getattr"),
            Call(Name("builtins.__import__"), _MODULE, {}, {}, ["x"]),
            "LogitLink",
        ),
        (None, {"marked": 1}),
    ),
    ran=_MARKED,
)
add("setattr", lambda path: Call(Name("builtins.setattr"), _PREDICTOR, "marked", 1), ran=_MARKED)
add(
    "type_setattr",
    lambda path: Call(Name("type.__setattr__", "builtins"), _PREDICTOR, "marked", 1),
    ran=_MARKED,
)
add(
    "state_of_a_function",
    lambda path: State(Name("Pipeline.__init__", "sklearn.pipeline"), (None, {"marked": 1})),
    ran="hasattr(__import__('sklearn.pipeline').pipeline.Pipeline.__init__, 'marked')",
)
add(
    "dict_of_a_function",
    lambda path: State(Name("sklearn.base.clone"), {"marked": 1}),
    ran="hasattr(__import__('sklearn.base').base.clone, 'marked')",
)
add(
    "code_of_a_function",
    lambda path: State(
        Name("sklearn.base.clone"), (None, {"__code__": Name("get_config.__code__", "sklearn")})
    ),
    ran="__import__('sklearn').base.clone.__code__ is __import__('sklearn').get_config.__code__",
)
add(
    "defaults_of_a_function",
    lambda path: State(Name("sklearn.base.clone"), (None, {"__kwdefaults__": {"safe": 7}})),
    ran="__import__('sklearn').base.clone.__kwdefaults__ == {'safe': 7}",
)
add(
    "state_of_a_module",
    lambda path: State(Name("os.path"), {"marked": 1}),
    ran="hasattr(__import__('os').path, 'marked')",
)
add(
    "state_of_a_listed_library",
    lambda path: State(Name("numpy.linalg"), {"marked": 1}),
    ran="hasattr(__import__('numpy').linalg, 'marked')",
)
add(
    "item_of_the_modules",
    lambda path: State(Name("sys.modules"), "marked", 1, code=b"s"),
    ran="'marked' in __import__('sys').modules",
)
add(
    "items_of_the_modules",
    lambda path: State(Name("sys.modules"), "marked", 1, code=b"u"),
    ran="'marked' in __import__('sys').modules",
)
add(
    "item_of_the_environment",
    lambda path: State(Name("os.environ"), "MARKED", "1", code=b"s"),
    ran="'MARKED' in __import__('os').environ",
)
add(
    "place_to_import_from",
    lambda path: State(Name("sys.path"), path, code=b"a"),
    ran="'canary' in __import__('sys').path[-1]",
)
add(
    "places_to_import_from",
    lambda path: State(Name("sys.path"), path, code=b"e"),
    ran="'canary' in __import__('sys').path[-1]",
)
add(
    "importer",
    lambda path: State(Name("sys.meta_path"), 1, code=b"a"),
    ran="1 in __import__('sys').meta_path",
)
add(
    "builtin_function",
    lambda path: State(Name("builtins.__dict__"), "marked", _MKDIR, code=b"s"),
    ran="hasattr(__import__('builtins'), 'marked')",
)
add(
    "global_of_a_listed_class",
    lambda path: State(
        Name("Pipeline.__init__.__globals__", "sklearn.pipeline"), "marked", 1, code=b"s"
    ),
    ran="hasattr(__import__('sklearn.pipeline').pipeline, 'marked')",
)
add(
    "dispatch_table",
    lambda path: State(Name("copyreg.dispatch_table"), Name("builtins.int"), _MKDIR, code=b"s"),
    ran="int in __import__('copyreg').dispatch_table",
)
add(
    "copyreg_pickle",
    lambda path: Call(Name("copyreg.pickle"), Name("builtins.int"), _MKDIR),
    ran="int in __import__('copyreg').dispatch_table",
)
add(
    "extension_is_added",
    lambda path: Call(Name("copyreg.add_extension"), "posix", "mkdir", 88),
    ran="88 in __import__('copyreg')._inverted_registry",
)
add(
    "parts_of_a_kernel",
    lambda path: State(
        Name("sklearn.metrics.pairwise.PAIRWISE_KERNEL_FUNCTIONS"), "rbf", _MKDIR, code=b"s"
    ),
    ran="__import__('sklearn.metrics.pairwise').metrics.pairwise.PAIRWISE_KERNEL_FUNCTIONS['rbf'] "
    "is __import__('os').mkdir",
)
add(
    "fields_of_a_set_of_python",
    lambda path: State(Name("sklearn.utils._set_output.ADAPTERS_MANAGER"), {"adapters": {}}),
    ran="not __import__('sklearn.utils._set_output').utils._set_output.ADAPTERS_MANAGER.adapters",
)
add(
    "setstate_of_a_class_then_its_object",
    lambda path: [
        State(_PREDICTOR, (None, {"__setstate__": _MKDIR})),
        State(New(_PREDICTOR), path),
    ],
    ran=_MARKED.replace("marked", "__setstate__"),
)
add(
    "append_of_a_class_then_its_object",
    lambda path: [
        State(_PREDICTOR, (None, {"append": _MKDIR})),
        State(New(_PREDICTOR), path, code=b"a"),
    ],
    ran=_MARKED.replace("marked", "append"),
)
add(
    "append_in_the_dict_of_an_object",
    lambda path: State(
        State(New(Name("sklearn.dummy.DummyClassifier")), {"append": _MKDIR}), path, code=b"a"
    ),
)
add(
    "append_in_the_dict_of_a_namespace",
    lambda path: State(
        Call(Name("types.SimpleNamespace"), state={"append": _MKDIR}), path, code=b"a"
    ),
)
add(
    "extend_in_the_dict_of_a_namespace",
    lambda path: State(
        Call(Name("types.SimpleNamespace"), state={"append": _MKDIR}), path, code=b"e"
    ),
)
add(
    "add_in_the_dict_of_a_namespace",
    lambda path: State(
        Call(Name("types.SimpleNamespace"), state={"add": _MKDIR}), path, code=b"\x90"
    ),
)
add(
    "setstate_in_the_dict_of_a_namespace",
    lambda path: State(Call(Name("types.SimpleNamespace"), state={"__setstate__": _MKDIR}), path),
)
add(
    "setstate_in_the_slots_of_an_object",
    lambda path: State(
        State(New(Name("collections.UserDict")), (None, {"__setstate__": _MKDIR})), path
    ),
)
add(
    "setstate_in_the_dict_of_an_estimator",
    lambda path: State(
        State(New(Name("sklearn.dummy.DummyClassifier")), {"__setstate__": _MKDIR}), path
    ),
)
add(
    "call_in_an_estimator",
    lambda path: State(New(Name("sklearn.pipeline.Pipeline")), {"steps": [("a", mkdir(path))]}),
)
add(
    "class_of_an_object_by_slots",
    lambda path: [
        State(New(_PREDICTOR), (None, {"__class__": Name("IdentityLink", _MODULE)})),
        mkdir(path),
    ],
)
