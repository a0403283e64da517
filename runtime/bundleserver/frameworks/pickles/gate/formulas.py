"""The text of a statsmodels formula, which patsy or formulaic evaluate as Python."""

from __future__ import annotations

import io
import keyword
import tokenize
from collections.abc import Sequence

from bundleserver.frameworks.pickles.gate.refusal import Refused

_LONGEST = 10_000
_FUNCTIONS = frozenset(
    {
        "C", "Diff", "Helmert", "I", "Poly", "Q", "Sum", "Treatment", "bs", "cc", "center", "cr",
        "exp", "log", "log10", "log1p", "log2", "scale", "sqrt", "standardize",
    }
)  # fmt: skip
_OF_NUMPY = frozenset(
    {
        "abs", "arcsinh", "cbrt", "cos", "cosh", "exp", "expm1", "log", "log10", "log1p", "log2",
        "power", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh",
    }
)  # fmt: skip
_NUMPY = frozenset({"np", "numpy"})
_SIGNS = frozenset(["+", "-", "*", "/", "**", ":", "(", ")", "~", ",", "=", "|"])
_ENDS = frozenset(
    {tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT}
)


def check_formula(text: object) -> None:
    """Check that a formula has columns, numbers, signs and well-known functions only.

    Raises:
        Refused: it has anything else.
    """
    if type(text) is not str or len(text) > _LONGEST:
        raise Refused("a formula is no text, or a very long one")
    try:
        tokens = [
            token
            for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline)
            if token.type not in _ENDS
        ]
    except (tokenize.TokenError, SyntaxError, ValueError) as error:
        raise Refused(f"the formula '{text:.80}' cannot be read") from error
    for at in range(len(tokens)):
        if not _is_allowed(tokens, at):
            what = f"'{tokens[at].string:.40}' in the formula '{text:.80}'"
            raise Refused(f"{what} could run code; expected columns and functions such as 'np.log'")


def _is_allowed(tokens: Sequence[tokenize.TokenInfo], at: int) -> bool:
    token, before, after = tokens[at], _text(tokens, at - 1), _text(tokens, at + 1)
    if token.type == tokenize.NUMBER:
        return True
    if token.type == tokenize.STRING:
        return token.string[0] in "'\"" and "\\" not in token.string
    if token.type == tokenize.OP and token.string == ".":
        return before in _NUMPY and after in _OF_NUMPY
    if token.type == tokenize.OP and token.string == "(":
        return _opens(tokens, at)
    if token.type == tokenize.OP:
        return token.string in _SIGNS
    is_name = token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    return is_name and "__" not in token.string


def _opens(tokens: Sequence[tokenize.TokenInfo], at: int) -> bool:
    """Ask whether a bracket groups, or calls a well-known function."""
    if at == 0:
        return True
    before = tokens[at - 1]
    if before.type == tokenize.NAME:
        if _text(tokens, at - 2) == ".":
            return before.string in _OF_NUMPY and _text(tokens, at - 3) in _NUMPY
        return before.string in _FUNCTIONS
    return before.type == tokenize.OP and before.string != ")"


def _text(tokens: Sequence[tokenize.TokenInfo], at: int) -> str:
    return tokens[at].string if 0 <= at < len(tokens) else ""
