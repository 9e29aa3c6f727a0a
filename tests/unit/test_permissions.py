"""The one decision about what an operation takes, and the table that it goes by."""

from __future__ import annotations

import pytest

from gapless.auth.permissions import (
    EVERYTHING,
    OPERATIONS,
    ROLES,
    Rule,
    Scope,
    Standing,
    allowed,
    refusal,
)
from gapless.errors import Forbidden, MissingToken, Unauthorized

NOTHING = Standing(frozenset(), signed_in=True)
ADMIN = Standing(EVERYTHING, signed_in=True)
PROGRAM = Standing(EVERYTHING, signed_in=False)


def test_each_role_may_what_the_one_before_may() -> None:
    """The roles are steps."""
    read, fetch, admin = (ROLES[name] for name in ("read", "fetch", "admin"))
    assert read < fetch < admin == frozenset(Scope)


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_what_the_table_says_is_what_is_decided(name: str) -> None:
    """For every operation: nobody, a bad token, each role, a program's token."""
    rule = OPERATIONS[name]
    assert (refusal(name, None) is None) is rule.anyone
    assert (refusal(name, None, presented=True) is None) is rule.anyone
    for scopes in ROLES.values():
        needed = rule.anyone or rule.scope is None or rule.scope in scopes
        assert (refusal(name, Standing(scopes, signed_in=True)) is None) is needed
    assert refusal(name, ADMIN) is None
    assert (refusal(name, PROGRAM) is None) is (rule.anyone or not rule.signed_in)
    empty = rule.anyone or rule.scope is None
    assert (refusal(name, NOTHING) is None) is empty


def test_what_is_allowed_is_what_is_not_refused() -> None:
    """The decision that is made before and the one that says why are one."""
    for scopes in (*ROLES.values(), frozenset[Scope]()):
        for signed_in in (True, False):
            standing = Standing(scopes, signed_in)
            for name in OPERATIONS:
                assert (name in allowed(standing)) is (refusal(name, standing) is None)


def test_why_it_is_refused() -> None:
    """No token, one that is none, one that is not enough: three different answers."""
    assert isinstance(refusal("GET /v1/users", None), MissingToken)
    assert isinstance(refusal("GET /v1/users", None, presented=True), Unauthorized)
    error = refusal("GET /v1/users", Standing(ROLES["fetch"], signed_in=True))
    assert isinstance(error, Forbidden)
    assert error.message == "this takes the scope admin; your token has fetch, read"
    error = refusal("POST /v1/tokens", PROGRAM)
    assert isinstance(error, Forbidden)
    assert "signing in" in error.message


def test_what_is_not_in_the_table_is_open_to_nobody() -> None:
    """An operation that somebody adds is closed until it has a rule."""
    assert isinstance(refusal("GET /v2/new", ADMIN), Forbidden)
    assert isinstance(refusal("GET /v2/new", None), MissingToken)


def test_what_is_open_to_anyone() -> None:
    """No more than what the wire contract lists: health, setup, signing in; and Ping."""
    assert {name for name, rule in OPERATIONS.items() if rule.anyone} == {
        "Ping",
        "GET /healthz",
        "GET /readyz",
        "GET /setup",
        "POST /setup",
        "GET /login",
        "POST /login",
        "POST /v1/auth/login",
        "POST /v1/auth/refresh",
    }
    # The gate lets these through by their path, which therefore is always the same.
    assert not any("{" in name for name, rule in OPERATIONS.items() if rule.anyone)


def test_a_rule_is_closed_unless_it_says_otherwise() -> None:
    """The default lets nobody in without a token."""
    assert not Rule().anyone
