"""Questions to an HTTP server, and its answers."""

import json
import urllib.error
import urllib.request

from tests.support.publishing import DEADLINE_S


def get(url):
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return answer.read()


def ask(request):
    """Status, headers and body of an answer to a URL or request; the body of an error as JSON."""
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.loads(error.read())


def post(url, headers=None, **what):
    """Status and JSON of the answer to a POST of JSON."""
    about = {"Content-Type": "application/json", **(headers or {})}
    status, _, body = ask(urllib.request.Request(url, json.dumps(what).encode(), headers=about))
    return status, json.loads(body) if isinstance(body, bytes) else body
