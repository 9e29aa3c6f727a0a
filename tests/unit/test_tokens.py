"""Tokens and passwords: what they look like, what is kept of them, what is refused."""

from __future__ import annotations

import asyncio
import re

import pytest

from gapless.auth.passwords import LONGEST, SHORTEST, Passwords, check_password
from gapless.auth.tokens import PREFIXES, Kind, digest, family_of, mint, plausible
from gapless.auth.users import checked_email
from gapless.errors import InvalidQuery, Overloaded
from support.people import PASSWORD


@pytest.mark.parametrize("kind", list(Kind))
def test_a_token_is_256_bits_behind_its_prefix(kind: Kind) -> None:
    """No two are alike, each tells what it is, and only its sum is kept."""
    made = [mint(kind) for _ in range(1_000)]
    assert len({one.text for one in made}) == len({one.family for one in made}) == 1_000
    for one in made:
        assert one.text.startswith(PREFIXES[kind])
        secret = re.search(r"[A-Za-z0-9_-]{43}$", one.text)
        assert secret is not None
        assert plausible(one.text)
        assert one.digest == digest(one.text)
        assert one.text not in repr(one)
        assert one.digest not in repr(one)
        assert secret[0] not in one.digest
    assert (family_of(made[0].text) == made[0].family) is (kind is Kind.REFRESH)


@pytest.mark.parametrize(
    "text",
    ["", "gapless_rt_", "gapless_rt_a.b", "x" * 1_000, "gapless_rt_" + "a" * 22 + "." + "b" * 44],
)
def test_what_is_no_refresh_token(text: str) -> None:
    """It has no family."""
    assert family_of(text) is None


def test_passwords() -> None:
    """Too short, too long, too plain, or the address itself: each is told why."""
    check_password("x7-Q" * 3, "ann@example.com")
    check_password("пароль-пароль", "ann@example.com")
    for password, why in (
        ("short", f"{SHORTEST} are the least"),
        ("", f"{SHORTEST} are the least"),
        ("ab" * 200, f"{LONGEST} characters are the most"),
        ("aaaaaaaaaaaaaa", "too easy"),
        ("Ann@Example.com", "too easy"),
    ):
        with pytest.raises(InvalidQuery, match=why):
            check_password(password, "ann@example.com")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "@",
        "a@",
        "@b",
        "a b@c",
        "a@b@c",
        "a@b\n",
        "a\u202e@b",
        "a/b@c",
        "x" * 255 + "@y.z",
    ],
)
def test_what_is_no_address(text: str) -> None:
    """It is refused in a sentence; white space around one is not part of it."""
    if text == "a@b\n":
        assert checked_email(text) == "a@b"
        return
    with pytest.raises(InvalidQuery, match="no email address"):
        checked_email(text)


async def test_a_password_is_hashed_as_owasp_says() -> None:
    """argon2id, 19 MiB, two passes, one lane; each hash with its own salt."""
    passwords = Passwords()
    first, second = await asyncio.gather(passwords.hashed(PASSWORD), passwords.hashed(PASSWORD))
    assert first != second
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(first, PASSWORD)
    assert not await passwords.verify(first, PASSWORD + "x")
    assert not await passwords.verify(None, PASSWORD)
    assert not await passwords.verify("not a hash", PASSWORD)
    assert not await passwords.verify(first, "y" * 100_000)
    assert not passwords.outdated(first)
    assert passwords.outdated(first.replace("t=2", "t=1"))
    passwords.close()


async def test_the_same_letters_in_another_spelling() -> None:
    """A keyboard that composes and one that does not type the same password."""
    passwords = Passwords()
    stored = await passwords.hashed("Åse går på ski, hver dag")
    assert await passwords.verify(stored, "A\u030ase ga\u030ar pa\u030a ski, hver dag")
    passwords.close()


async def test_no_more_than_so_many_wait() -> None:
    """Whoever is too many is told to come again, and nobody else is."""
    passwords = Passwords(most_of_one=4)
    results = await asyncio.gather(
        *(passwords.hashed(PASSWORD) for _ in range(10)), return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, Overloaded)]
    assert len(refused) == 4
    assert all(one.retry_after_s for one in refused)
    assert isinstance(await passwords.hashed(PASSWORD), str)
    passwords.close()
