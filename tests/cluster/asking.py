"""Sends requests from inside a pod: read as JSON from standard input, answered as JSON.

Runs with the image's own Python, so it imports nothing of the tests'.
"""

import concurrent.futures
import http.client
import json
import sys
import threading
import urllib.parse

_LOCAL = threading.local()


def ask(request):
    """Return status, headers and body; of what did not answer 0 and why."""
    url = urllib.parse.urlsplit(request["url"])
    body, headers = request.get("body"), dict(request.get("headers") or {})
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    method = request.get("method") or ("GET" if body is None else "POST")
    path = url.path + (f"?{url.query}" if url.query else "")
    try:
        connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=30)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        return 0, {}, str(error)
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    with concurrent.futures.ThreadPoolExecutor(asked["threads"]) as pool:
        json.dump(list(pool.map(ask, asked["requests"])), sys.stdout)
