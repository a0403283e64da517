"""What an error in the probe means: the model refuses the made-up value, or it cannot answer.

The first row of ``VERDICTS`` whose class and words match an error decides. A row names classes as
they are spelled in a traceback, so that no library is imported here; a class matches its
subclasses too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bundleserver.errors import InvalidInput, PredictionError
from bundleserver.frameworks.interface import first_line, is_of_torchscript


class Verdict(Enum):
    """What an error of a call with made-up inputs says about the model."""

    REFUSES = "it refuses the value, as it may with others"
    DOES_NOT_FIT = "width, rank, column or datatype do not fit"
    CANNOT = "it cannot answer anything"


@dataclass(frozen=True)
class Row:
    """One row of the table: an error of a class (empty: any) with such words (empty: any).

    Both are regular expressions: of the whole name of the class or a base, of a part of the text.
    """

    classes: str
    words: str
    verdict: Verdict

    def matches(self, names: frozenset[str], text: str) -> bool:
        """Ask whether an error with these class names and this text is meant."""
        is_class = not self.classes or any(re.fullmatch(self.classes, name) for name in names)
        return is_class and re.search(self.words, text, re.IGNORECASE) is not None


TORCHSCRIPT: Final = "TorchScript"
"""Stands for the class of an error that the interpreter of TorchScript reports."""

_SHAPES = (
    r"features?, but|expect\w* \d+ features|number of (features|columns)|feature.names|n_features"
    r"|\d-?d(imensional)?\b|reshape your data|\bdim\b|\bsize\b"
    r"|\bshapes?\b|\bdimensions?\b|\brank\b"
    r"|broadcast|not aligned|mismatch|inconsistent (numbers|length)|same (size|length)"
    r"|size of tensor|sizes? of|mat1 and mat2|size\(-?\d\)|input_size|too many (values|indices)"
    r"|not enough values|inhomogeneous|per sample"
)
_COLUMNS = (
    r"columns? (is|are) missing|missing columns?|not in index|not found in axis|no column"
    r"|\bcolumns\b|categorical_feature"
    r"|model is missing inputs|not a column|is not in list|expects the columns"
)
_DATATYPES = (
    r"\bdtypes?\b(?!\('?float)|datatype|scalar type|could not convert string|cannot cast"
    r"|unsupported operand|not supported between|must be (a string or )?(a )?real number"
    r"|bytes-like object|unhashable type|only (0-dimensional|length-1|size-1) arrays"
    r"|(is|are) not (iterable|subscriptable)|has no len\(\)"
    r"|ufunc '\w+' (did not|not)|expected \w+ but (got|found)"
)

_NOT_FITTED = r"not (been )?(fitted|trained)|no trained|before calling|(call|use) .?fit"
_OF_A_VALUE = r"^'(numpy\.\w+|str|bytes|bool|int|float|list|DataFrame|Series)' object"

VERDICTS: Final = (
    Row("NotFittedError", "", Verdict.CANNOT),
    Row("", _NOT_FITTED, Verdict.CANNOT),
    Row("ValueError", r"^got \d+ outputs; expected", Verdict.CANNOT),
    Row("ImportError", "", Verdict.CANNOT),
    Row("FrameworkError|BundleError", "", Verdict.CANNOT),
    Row("IndexError", r"only integers, slices|indices|for axis", Verdict.DOES_NOT_FIT),
    # What a value may be, in words that the rows below would take for a shape or a datatype.
    Row(
        "",
        r"\bnan\b|infinit|too large for|unknown categor|unseen label|previously unseen",
        Verdict.REFUSES,
    ),
    Row(
        "",
        r"negative|must be (strictly )?positive|non-?positive|out of (range|bounds|vocabulary)",
        Verdict.REFUSES,
    ),
    Row(
        "PatsyError|FactorEvaluationError",
        r"does not match any of the expected levels|levels",
        Verdict.REFUSES,
    ),
    Row("MemoryError|RecursionError|NotImplementedError|AssertionError", "", Verdict.CANNOT),
    Row(
        "AttributeError",
        rf"can only use \.\w+ accessor|{_OF_A_VALUE}",
        Verdict.DOES_NOT_FIT,
    ),
    Row("AttributeError", "partially initialized", Verdict.REFUSES),
    Row("AttributeError|NameError", "", Verdict.CANNOT),
    Row("KeyError", "", Verdict.DOES_NOT_FIT),
    Row("TypeError", _DATATYPES, Verdict.DOES_NOT_FIT),
    Row("TypeError", "", Verdict.CANNOT),
    Row("", f"{_SHAPES}|{_COLUMNS}|{_DATATYPES}", Verdict.DOES_NOT_FIT),
    Row("InvalidInput", "", Verdict.REFUSES),
    Row("ValueError|ArithmeticError", "", Verdict.REFUSES),
    # Errors about data that are no ValueErrors, of a model's own code and of libraries.
    Row(r"\w*(Domain|Range|Value|Data|Input|Validation)(Error|Exception)", "", Verdict.REFUSES),
    Row("XGBoostError|LightGBMError|CatBoostError|MlflowException|PatsyError", "", Verdict.REFUSES),
    # Its operations know no other class of errors for a shape, a datatype or a value.
    Row(TORCHSCRIPT, "", Verdict.DOES_NOT_FIT),
    Row("", "", Verdict.CANNOT),
)


def verdict_on(error: BaseException, sent: frozenset[str] = frozenset()) -> Verdict:
    """Judge an error of a call with made-up inputs by what first raised it.

    Args:
        error: the error; one of ours that wraps a library's is judged by the library's.
        sent: the made-up values as strings: a lookup that does not find one of them refuses it.
    """
    cause = root_of(error)
    if isinstance(cause, KeyError) and str(cause.args[0] if cause.args else "") in sent:
        return Verdict.REFUSES
    return row_of(cause).verdict


def row_of(cause: BaseException) -> Row:
    """Return the row of the table that decides about an error."""
    names = frozenset(each.__name__ for each in type(cause).__mro__)
    text = str(cause)
    if is_of_torchscript(cause):
        names, text = names | {TORCHSCRIPT}, first_line(cause)
    return next(row for row in VERDICTS if row.matches(names, text))


def root_of(error: BaseException) -> BaseException:
    """Return what a library raised, where one of our errors only passes it on."""
    while isinstance(error, (InvalidInput, PredictionError)) and error.__cause__ is not None:
        error = error.__cause__
    return error
