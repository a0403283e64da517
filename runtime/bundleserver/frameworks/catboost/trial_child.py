"""The other process of :mod:`trial`: opens the model on its standard input, and calls it.

It is run as a file, so that it imports nothing of the server.
"""

from __future__ import annotations

import json
import resource
import sys

_EXAMPLES = {"number": 0.5, "category": "a", "text": "a b", "embedding": [0.0]}


def main(given: str) -> None:
    """Open and call; an exception, or a signal, is the answer."""
    options = json.loads(given)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (options["seconds"], options["seconds"]))
    resource.setrlimit(resource.RLIMIT_AS, (options["addresses"], options["addresses"]))
    import catboost

    model = catboost.CatBoost().load_model(blob=sys.stdin.buffer.read())
    columns = options["columns"]
    if "embedding" in columns:
        return
    places = {kind: [i for i, of in enumerate(columns) if of == kind] for kind in _EXAMPLES}
    for rows in (1, 40):
        pool = catboost.Pool(
            [[_EXAMPLES[kind] for kind in columns]] * rows,
            cat_features=places["category"] or None,
            text_features=places["text"] or None,
            thread_count=1,
        )
        model.predict(pool, thread_count=1)


if __name__ == "__main__":
    main(sys.argv[1])
