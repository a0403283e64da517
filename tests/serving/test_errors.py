"""The table from errors to answers."""

import errno
import logging

import pytest

from bundleserver import errors
from bundleserver.frameworks.free_memory import is_out_of_memory
from bundleserver.serving.errors import ErrorAnswer, answer_for


class OwnInput(errors.InvalidInput):
    """An error of a kind that the table does not list."""


@pytest.mark.parametrize(
    ("error", "status", "grpc_code", "retry_after"),
    [
        (errors.InvalidInput("x"), 400, "INVALID_ARGUMENT", None),
        (OwnInput("x"), 400, "INVALID_ARGUMENT", None),
        (errors.ModelNotFound("m"), 404, "NOT_FOUND", None),
        (errors.VersionNotFound("m", "9", "it has 1"), 404, "NOT_FOUND", None),
        (errors.RequestTooLarge(10), 413, "RESOURCE_EXHAUSTED", None),
        (errors.AnswerTooLarge(11, 10), 413, "RESOURCE_EXHAUSTED", None),
        (errors.RequestTimedOut(61.0, 60.0), 504, "DEADLINE_EXCEEDED", None),
        (errors.RequestCancelled(), 503, "CANCELLED", None),
        (errors.RequestTooSlow("x"), 408, "DEADLINE_EXCEEDED", None),
        (errors.NotReady("m", "loading", 7), 503, "UNAVAILABLE", 7),
        (errors.QueueFull("m", 3), 503, "RESOURCE_EXHAUSTED", 1),
        (errors.PredictionError("m", "ValueError", "abc"), 500, "INTERNAL", None),
        (errors.OutOfMemory("m", "MemoryError", "abc"), 503, "RESOURCE_EXHAUSTED", 1),
        (errors.HistoryTooLong(11, 10, 8), 413, "RESOURCE_EXHAUSTED", None),
        (errors.LoadError("cannot open x.pkl"), 503, "UNAVAILABLE", None),
        (errors.SourceError("the volume is gone"), 503, "UNAVAILABLE", None),
    ],
)
def test_each_error_has_one_answer(error, status, grpc_code, retry_after):
    """REST and gRPC say the same kind of thing, in the error's own sentence."""
    assert ErrorAnswer(status, grpc_code, str(error), retry_after) == answer_for(error)


def test_an_unforeseen_error_tells_the_caller_an_incident_only(caplog):
    """The traceback goes to the log, under the id that the caller is told."""
    try:
        raise RuntimeError("the password is hunter2")
    except RuntimeError as error:
        caught = error

    with caplog.at_level(logging.ERROR):
        answer = answer_for(caught)

    assert (500, "INTERNAL") == (answer.status, answer.grpc_code)
    assert "hunter2" not in answer.message
    incident = answer.message.partition("incident ")[2].partition(";")[0]
    assert len(incident) == 12
    assert incident in caplog.text
    assert "hunter2" in caplog.text


def test_too_little_memory_is_not_the_requests_fault(caplog):
    """It is 503, to be tried again, and never a bare 500."""
    answer = answer_for(MemoryError())

    assert (503, "RESOURCE_EXHAUSTED", 1) == (
        answer.status,
        answer.grpc_code,
        answer.retry_after_seconds,
    )
    assert "too little memory" in answer.message


def raised_while(first: BaseException, second: BaseException) -> BaseException:
    """Return the second, raised while the first was handled."""
    second.__context__ = first
    return second


def raised_for(first: BaseException, second: BaseException) -> BaseException:
    """Return the second, raised from the first."""
    second.__cause__ = first
    return second


def cycle() -> BaseException:
    """Return an error that is its own cause."""
    error = ValueError("a")
    return raised_for(raised_for(error, KeyError("b")), error)


class Unspeakable(RuntimeError):
    """A library's error that cannot be told."""

    def __str__(self):
        raise KeyError("code")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("std::bad_alloc"), True),
        (ValueError("could not convert string to float: 'std::bad_alloc'"), False),
        (Unspeakable(), False),
        (raised_while(MemoryError(), Unspeakable()), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (raised_while(MemoryError(), ValueError("too wide")), True),
        (raised_while(RuntimeError("std::bad_alloc"), ValueError("too wide")), True),
        (raised_while(KeyError("a"), ValueError("too wide")), False),
        (raised_for(MemoryError(), ValueError("too wide")), True),
        (raised_for(KeyError("a"), raised_while(MemoryError(), ValueError("too wide"))), False),
        (cycle(), False),
        (ValueError("out of memory"), False),
        (None, False),
    ],
)
def test_libraries_say_out_of_memory_in_their_own_words(error, expected):
    """Also where they do not raise MemoryError."""
    assert expected == is_out_of_memory(error)


def test_a_failure_of_the_models_code_is_not_logged_twice(caplog):
    """Where the model's code raised it was logged already; mapping it logs nothing."""
    answer_for(errors.PredictionError("m", "ValueError", "abc"))

    assert not caplog.records
