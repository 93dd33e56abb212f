"""Errors as problems."""

import json

import pytest

from eric_sse import exception
from eric_sse.asgi.problems import problem, problem_of

# What a request can cause, and the status that says whose fault it is and whether trying again helps.
STATUS = {
    exception.ChannelNotFound("c"): 404,
    exception.ListenerNotFound("c", "l"): 404,
    exception.ChannelExists("c"): 409,
    exception.ListenerExists("c", "l"): 409,
    exception.EpochMismatch("c", "a", "b"): 409,
    exception.InvalidChannelException("bad"): 422,
    exception.InvalidListenerException("bad"): 422,
    exception.InvalidMessageFormat("bad"): 422,
    exception.InvalidPosition("c", "x"): 422,
    exception.ConfigurationError("bad"): 422,
    exception.Overloaded("later"): 503,
    exception.StoreUnavailable("later"): 503,
    exception.OutcomeUnknown("later"): 503,
    exception.StoreFull("full"): 507,
    exception.RepositoryError("damaged"): 500,
}


@pytest.mark.parametrize(("error", "status"), STATUS.items(), ids=lambda value: type(value).__name__)
def test_each_error_has_its_status(error, status):
    """The status of each of the package's errors, and its own words as the detail."""
    response = problem_of(error)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body)["detail"] == str(error)
    assert ("retry-after" in response.headers) == (status == 503)


def test_only_what_the_server_is_to_blame_for_is_logged(caplog):
    """A damaged store is logged with its traceback; what a client got wrong is not."""
    problem_of(exception.ChannelNotFound("c"))
    assert not caplog.records
    problem_of(exception.RepositoryError("damaged"))
    assert "damaged" in caplog.text


def test_members():
    """The members of RFC 9457, and headers as they were given."""
    response = problem(503, "detail", {"retry-after": "7"})
    assert json.loads(response.body) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "detail",
    }
    assert response.headers["retry-after"] == "7"


def test_a_detail_that_utf8_cannot_carry():
    """What quotes a lone surrogate is still sent."""
    assert json.loads(problem(422, "id \ud800").body)["detail"] == "id \\ud800"
