"""How tensors flow through a manifest's steps: each is produced once, before it is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from bundleserver.documents.forms import nearest
from bundleserver.documents.strict_json import Place, shown
from bundleserver.manifest.drafts import Declared, Draft, Found, repeats
from bundleserver.manifest.forms import StepForm


class Flow:
    """Follows the tensors through the steps in their order in the file."""

    def __init__(self, inputs: Declared, steps: Sequence[Draft[StepForm] | None]) -> None:
        self._inputs = inputs
        self._steps = {step.place[1]: step for step in steps if step is not None}
        self._given = bool(steps)
        self._complete = inputs.complete and all(
            step is not None and "outputs" not in step.lost for step in steps
        )
        self._makers: dict[str, int] = {}
        self._takers: dict[str, list[int]] = {}
        for index, step in enumerate(steps):
            for name in (step and step.form.outputs) or ():
                self._makers.setdefault(name, index)
            for name in (step and step.form.inputs) or ():
                self._takers.setdefault(name, []).append(index)

    def problems(self, outputs: Declared) -> Found:
        """Find tensors that are produced twice, used before they are produced, or missing."""
        yield from repeats(self._named("outputs"), self._inputs.places)
        for place, name in self._named("inputs"):
            what = self._input_problem(int(place[1]), name)
            if what:
                yield place, f"is {shown(name)}, which {what}"
        if self._given and self._complete:
            for name, place in outputs.places.items():
                if name not in self._makers:
                    known = nearest(name, self._makers)
                    yield place, f"is {shown(name)}, which no step produces{known}"

    def _named(self, key: str) -> Iterator[tuple[Place, str]]:
        for step in self._steps.values():
            for at, name in enumerate(getattr(step.form, key) or ()):
                yield (*step.place, key, at), name

    def _input_problem(self, index: int, name: str) -> str | None:
        maker = self._makers.get(name)
        is_made = maker is not None and maker < index
        if is_made or name in self._inputs.places or not self._complete:
            return None
        if maker is None:
            known = [*self._inputs.places, *(n for n, at in self._makers.items() if at < index)]
            hint = f"is not an input and no step produces{nearest(name, known)}"
            return hint if self._inputs.given else None
        cycle = self._cycle(index, name)
        if cycle:
            path = " -> ".join(map(shown, cycle))
            return f"closes a cycle: {path}; a step may only use outputs of earlier steps"
        return f"steps[{maker}] produces later; put that step before this one"

    def _cycle(self, index: int, name: str) -> list[str]:
        """Return the path from a tensor through a step that uses it back to itself, if any."""
        came_from = dict.fromkeys(self._steps[index].form.outputs, name)
        waiting = deque(came_from)
        while waiting and name not in came_from:
            tensor = waiting.popleft()
            for taker in self._takers.get(tensor, ()):
                for made in self._steps[taker].form.outputs:
                    if made not in came_from:
                        came_from[made] = tensor
                        waiting.append(made)
        if name not in came_from:
            return []
        way = [name, came_from[name]]
        while way[-1] != name:
            way.append(came_from[way[-1]])
        return way[::-1]
