"""A coroutine that was begun in the parser callback and goes on in a task."""

from __future__ import annotations

from collections.abc import Coroutine, Generator

from bundleserver.serving.errors import ClientDisconnectedError, answer_for
from bundleserver.serving.inflight import InflightBytes
from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send
from bundleserver.serving.rest.client import answer_while_there
from bundleserver.serving.rest.http import Answer, answer_of_error


class Begun:
    """A coroutine that has run to its first pause, to be awaited by a task that goes on with it."""

    def __init__(self, coroutine: Coroutine[object, None, Answer], awaited: object) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[object, None, Answer]:
        """Wait for what it waits for, and so on until its end."""
        try:
            while True:
                try:
                    value = yield self._awaited
                except BaseException as error:  # noqa: BLE001  # it is the coroutine's
                    # It has the error, whose traceback has this frame.
                    self._awaited = None
                    self._awaited = self._coroutine.throw(error)
                else:
                    self._awaited = self._coroutine.send(value)
        except StopIteration as ended:
            answer: Answer = ended.value
            return answer


async def counted(
    app: AsgiApp, bodies: InflightBytes, size: int, scope: Message, receive: Receive, send: Send
) -> None:
    """Go on with a request whose body has been counted, until it is answered."""
    try:
        await app(scope, receive, send)
    finally:
        bodies.give_back(size)


async def go_on(begun: Begun, scope: Message, _receive: Receive, send: Send) -> None:
    """Answer with what it returns, as an application; every error becomes a response."""
    try:
        answer = await answer_while_there(scope, begun)
    except ClientDisconnectedError:
        return
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # the edge
        answer = answer_of_error(answer_for(error))
    await answer.send(send)
