"""Instructions of all protocols, written by hand."""

from __future__ import annotations

import pickle

from tests.hostile.gadgets.writing import add, named, text

_MKDIR = named("posix", "mkdir")
_PLAIN = b"N."


def _call(path: str, name: bytes = _MKDIR) -> bytes:
    return name + b"(" + text(path) + b"tR"


def _stack_global(module: bytes, name: bytes, path: str) -> bytes:
    return module + name + b"\x93" + text(path) + b"\x85R"


add("protocol_0_global", lambda path: b"cposix\nmkdir\n(V%s\ntR." % path.encode())
add("protocol_0_string", lambda path: b"cposix\nmkdir\n(S'%s'\ntR." % path.encode())
add("protocol_1_global", lambda path: _call(path) + b".")
add("protocol_2_global", lambda path: b"\x80\x02" + _MKDIR + text(path) + b"\x85R.")
add("protocol_3_global", lambda path: b"\x80\x03" + _MKDIR + text(path) + b"\x85R.")
add(
    "protocol_4_stack_global",
    lambda path: b"\x80\x04" + _stack_global(text("posix"), text("mkdir"), path) + b".",
)
add(
    "protocol_5_frame",
    lambda path: (
        b"\x80\x05\x95"
        + len(body := _stack_global(text("posix"), text("mkdir"), path) + b".").to_bytes(
            8, "little"
        )
        + body
    ),
)
add("protocol_99_header", lambda path: b"\x80\x05" + _call(path) + b".")
add("inst", lambda path: b"(V%s\niposix\nmkdir\n." % path.encode())
add("obj", lambda path: b"(" + _MKDIR + text(path) + b"o.")
add("obj_protocol_4", lambda path: b"\x80\x04(" + _MKDIR + text(path) + b"o.")
_MEMMAP = named("numpy", "memmap")
_MAPPED = text("uint8") + text("w+") + b"K\x00K\x04"
add("newobj", lambda path: b"\x80\x02" + _MEMMAP + b"(" + text(path) + _MAPPED + b"t\x81.")
add(
    "newobj_ex",
    lambda path: (
        b"\x80\x04"
        + _MEMMAP
        + b")("
        + text("filename")
        + text(path)
        + text("mode")
        + text("w+")
        + text("shape")
        + b"K\x04d\x92."
    ),
)
add(
    "copyreg_newobj",
    lambda path: named("copyreg", "__newobj__") + b"(" + _MEMMAP + text(path) + _MAPPED + b"tR.",
)
add(
    "copyreg_newobj_ex",
    lambda path: (
        named("copyreg", "__newobj_ex__") + b"(" + _MEMMAP + b"(" + text(path) + _MAPPED + b"t}tR."
    ),
)
for _code, _length in ((b"\x82", 1), (b"\x83", 2), (b"\x84", 4)):
    add(
        f"extension_{_length}",
        lambda path, code=_code, length=_length: (
            b"\x80\x02" + code + (77).to_bytes(length, "little") + text(path) + b"\x85R."
        ),
        prepare="import copyreg; copyreg.add_extension('posix', 'mkdir', 77)",
    )
_NO_PERSISTENT = "no unpickler here has objects outside of a pickle"
add("persistent_id", lambda path: b"Pos.mkdir\n.", theoretical=_NO_PERSISTENT)
add("binary_persistent_id", lambda path: text(path) + b"Q.", theoretical=_NO_PERSISTENT)
add(
    "persistent_id_then_call",
    lambda path: b"Px\n0" + _call(path) + b".",
    theoretical=_NO_PERSISTENT,
)
_NO_BUFFERS = "no unpickler here has buffers outside of a pickle"
add("next_buffer", lambda path: b"\x80\x05\x97" + _call(path) + b".", theoretical=_NO_BUFFERS)
add(
    "readonly_buffer_after",
    lambda path: b"\x80\x05" + _call(path) + b"0\x97\x98.",
)

add(
    "memo_overwritten",
    lambda path: b"Nq\x00" + _MKDIR + b"q\x00" + b"h\x00" + text(path) + b"\x85R.",
)
add(
    "memo_put_in_text",
    lambda path: _MKDIR + b"p12345678\n0g12345678\n(V%s\ntR." % path.encode(),
)
add(
    "memoize_after_put",
    lambda path: b"\x80\x04N\x94" + _MKDIR + b"\x940" + b"q\x00h\x01" + text(path) + b"\x85R.",
)
add(
    "memo_of_a_mark",
    lambda path: _MKDIR + b"q\x01(h\x01q\x02" + b"1" + b"h\x02(" + text(path) + b"tR.",
)
add(
    "memo_far_away",
    lambda path: _MKDIR + b"r\xff\xff\xff\x00" + b"0j\xff\xff\xff\x00(" + text(path) + b"tR.",
)
add("memo_of_arguments", lambda path: b"(" + text(path) + b"tq\x01" + b"0" + _MKDIR + b"h\x01R.")
add("list_in_itself", lambda path: b"]q\x00h\x00a(" + _call(path) + b"e.")
add(
    "tuple_in_itself",
    lambda path: b"]q\x00(h\x00tq\x01" + b"0" + b"h\x00h\x01a" + _call(path) + b"a.",
)
add("popped_result", lambda path: _call(path) + b"0" + _PLAIN)
add("popped_with_its_mark", lambda path: b"(" + _call(path) + b"1" + _PLAIN)
add("below_the_top", lambda path: _call(path) + _PLAIN)
add("twice_by_dup", lambda path: _MKDIR + b"2(" + text(path) + b"tR0" + _PLAIN)
add("as_a_key", lambda path: b"}" + _call(path) + b"Ns.")
add("as_an_item_of_a_set", lambda path: b"\x80\x04\x8f(" + _call(path) + b"\x90.")
add("as_an_item_of_a_frozenset", lambda path: b"\x80\x04(" + _call(path) + b"\x91.")
add("deep_in_tuples", lambda path: b"\x80\x02" + _call(path) + b"\x85" * 500 + b".")
add(
    "as_the_state_of_an_object",
    lambda path: named("types", "SimpleNamespace") + b")R}" + text("a") + _call(path) + b"sb.",
)
add(
    "as_the_argument_of_an_honest_call",
    lambda path: (
        named("collections", "OrderedDict") + b"(](](" + text("k") + _call(path) + b"eatR."
    ),
)

_MODULES = {
    "escaped_unicode_name": b"V\\u0070os\\u0069x\n" + b"Vmk\\u0064ir\n",
    "long_unicode_name": b"\x8d" + (5).to_bytes(8, "little") + b"posix" + text("mkdir"),
    "string_name": b"S'posix'\n" + b'S"mkdir"\n',
    "escaped_string_name": b"S'\\x70osix'\n" + b"S'mk\\144ir'\n",
    "short_string_name": b"U\x05posix" + b"U\x05mkdir",
    "long_string_name": b"T\x05\x00\x00\x00posix" + b"T\x05\x00\x00\x00mkdir",
    "name_from_the_memo": text("mkdir") + b"\x940" + text("posix") + b"h\x00",
}
for _name, _named in _MODULES.items():
    add(
        _name,
        lambda path, start=_named: b"\x80\x04" + start + b"\x93" + text(path) + b"\x85R.",
    )
add("utf8_name_of_protocol_3", lambda path: b"\x80\x03" + _call(path) + b".")
add(
    "header_in_the_middle",
    lambda path: (
        b"\x80\x04N0\x80\x02"
        + _call(path, named("__builtin__", "unicode"))
        + b"0"
        + _call(path)
        + b"."
    ),
)
add(
    "header_of_protocol_2_for_old_names",
    lambda path: (
        b"\x80\x04N0\x80\x02"
        + named("__builtin__", "eval")
        + text(f"__import__('os').mkdir({path!r})")
        + b"\x85R."
    ),
)
add(
    "name_of_python_2_in_protocol_1",
    lambda path: named("commands", "getoutput") + b"(" + text(f"mkdir '{path}'") + b"tR.",
)
add(
    "module_of_python_2",
    lambda path: (
        named("cPickle", "loads")
        + b"(\x8e"
        + len(inner := _call(path) + b".").to_bytes(8, "little")
        + inner
        + b"tR."
    ),
)
add("huge_frame", lambda path: b"\x80\x04" + _call(path) + b"0\x95" + b"\xff" * 8 + b"N.")
add(
    "empty_frames",
    lambda path: b"\x80\x04" + (b"\x95" + bytes(8)) * 3 + _call(path) + b".",
)
add("no_stop", _call)
add("broken_tail", lambda path: _call(path) + b"\xff\xff\xff")
add(
    "text_cut_off_behind_it",
    lambda path: _call(path) + b"X\xff\xff\xff\x7fabc",
    theoretical="refused as cut off before it is opened",
)
add(
    "bytes_of_2_gib_behind_it",
    lambda path: b"\x80\x05" + _call(path) + b"\x96" + (2 << 30).to_bytes(8, "little"),
    theoretical="refused as cut off before it is opened",
)
add("stack_underflow_behind_it", lambda path: _call(path) + b"000000.")
add("unknown_memo_behind_it", lambda path: _call(path) + b"h\xfe.")
add("many_marks_before_it", lambda path: b"(" * 20_000 + _call(path) + b".")
add(
    "second_pickle",
    lambda path: pickle.dumps([1]) + _call(path) + b".",
    theoretical="what follows the first pickle is not read",
)
add(
    "second_pickle_behind_the_end",
    lambda path: b"\x80\x04" + _call(path) + b"." + pickle.dumps([1]),
)
