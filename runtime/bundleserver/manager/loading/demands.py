"""Which versions of a model a poll shall read."""

from __future__ import annotations

from bundleserver.manager.admission import Admission
from bundleserver.manager.models import ModelRecord
from bundleserver.sources import Demand
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State


def demand_of(model: ModelRecord, admission: Admission) -> Demand:
    """Return which versions the source should read, without old unselected ones."""
    if model.manual.is_stopped:
        opened = frozenset(v for v, record in model.versions.items() if record.is_open)
        return Demand(model.policy, opened)
    by_name = {*model.manual.loaded, *admission.required(model.name), *model.configuration.named}
    left_out: set[Version] = set()
    for version, record in model.versions.items():
        is_left_out = version in model.manual.unloaded or record.state is State.FAILED
        if record.is_open or is_left_out:
            by_name.add(version)
        if is_left_out and record.is_loadable:
            left_out.add(version)
    return Demand(model.policy, frozenset(by_name), frozenset(left_out))


def demands_more(model: ModelRecord, admission: Admission, polled: Demand | None) -> bool:
    """Ask whether versions are demanded now that the last poll did not read."""
    if not model.unseen or polled is None:
        return False
    demand = demand_of(model, admission)
    is_wider = demand.policy != polled.policy or demand.further > polled.further
    return is_wider or not (demand.versions - polled.versions).isdisjoint(model.unseen)
