"""The wait for the turn to load: one worker process loads a new version before the others do."""

from __future__ import annotations

from collections.abc import Callable

from bundleserver.manager.loading.attempts import Attempt
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.records import VersionRecord
from bundleserver.manager.shared import Shared


def is_unwanted(shared: Shared, model: ModelRecord, record: VersionRecord) -> bool:
    """Ask whether a load is for nothing by now; called under the lock."""
    return shared.is_closing or record.version in model.manual.unloaded


def may_begin(
    shared: Shared,
    attempt: Attempt,
    clock: Callable[[], float],
    has_room: Callable[[], bool],
    count: Callable[[int], None],
) -> bool:
    """Wait until the admission lets a load begin; returns False if it will not.

    Its deadline counts from then. Meanwhile other loads may take its place, or those that all wait
    for would never begin.

    Args:
        shared: the manager's state.
        attempt: the load.
        clock: monotonic seconds.
        has_room: asks whether another load may start; called under the lock.
        count: changes the number of loads that are underway; called under the lock.
    """
    model, record, key = attempt.model, attempt.record, attempt.key
    admission = shared.admission

    def is_decided() -> bool:
        if (admission.may_load(key) and has_room()) or admission.bar(key) is not None:
            return True
        candidate = record.candidate
        is_gone = candidate is None or candidate.fingerprint != key.fingerprint
        return is_gone or is_unwanted(shared, model, record)

    with shared.change():
        if admission.may_load(key):
            return True
        attempt.waits = True
        count(-1)
        shared.changed.notify_all()
        shared.work.set()
        shared.changed.wait_for(is_decided)
        count(1)
        attempt.waits, attempt.began = False, clock()
        if admission.may_load(key):
            return True
        if is_unwanted(shared, model, record):
            record.withdraw()
        elif (why := admission.bar(key)) is not None:
            record.refuse(key.fingerprint, why)
            model.note_failure(record)
        else:
            record.give_up()
        admission.end_load(key)
        model.settle()
    return False
