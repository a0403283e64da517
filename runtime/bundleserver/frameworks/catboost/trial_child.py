"""The other process of :mod:`trial`: opens the model on its standard input, and calls it.

It is run as a file, so that it imports nothing of the server.
"""

from __future__ import annotations

import json
import resource
import sys

_STRINGS = ("a", "b", "c")
_ROWS = 40


def main(given: str) -> None:
    """Open and call; an exception, or a signal, is the answer."""
    options = json.loads(given)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (options["seconds"], options["seconds"]))
    resource.setrlimit(resource.RLIMIT_AS, (options["addresses"], options["addresses"]))
    import catboost

    model = catboost.CatBoost().load_model(blob=sys.stdin.buffer.read())
    columns = options["columns"]
    rows = [[_example(kind, i + j) for j, kind in enumerate(columns)] for i in range(_ROWS)]
    categories, texts = (
        [place for place, kind in enumerate(columns) if kind == wanted] or None
        for wanted in ("category", "text")
    )
    for count in (1, _ROWS):
        pool = catboost.Pool(
            rows[:count], cat_features=categories, text_features=texts, thread_count=1
        )
        for form in ("RawFormulaVal", "Probability", "LogProbability"):
            model.predict(pool, prediction_type=form, thread_count=1)


def _example(kind: str, number: int) -> float | str:
    """Return numbers of either sign, and strings that a model may know or not."""
    return (number * 7 % 11 - 5) / 2 if kind == "number" else _STRINGS[number % len(_STRINGS)]


if __name__ == "__main__":
    main(sys.argv[1])
