"""The docs against the code: settings, error codes, verbs, commands, links, numbers of rules."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

import msgspec
import pytest

from gapless.cli import build_app
from gapless.client.addresses import SCHEMES
from gapless.client.client import Client, connect
from gapless.config import options
from gapless.config.settings import Option
from gapless.errors import GaplessError
from gapless.protocol.language import (
    KEY_ALIASES,
    SEARCH_KEYS,
    VERB_ALIASES,
    VERBS,
    parse_line,
)
from gapless.protocol.messages import (
    DOUBTS,
    FILTER_KINDS,
    PROVIDER_REASONS,
    QUERY_TYPES,
    REQUEST_KINDS,
    WIRE_ERRORS,
    Entity,
    Envelope,
    decode_envelope,
)
from gapless.providers.yahoo_assumptions import ASSUMPTIONS, clock_verdict
from gapless.servers.http.account_shapes import (
    Login,
    NewApiToken,
    NewPassword,
    NewUser,
    Refresh,
    UserChange,
)
from gapless.shell.commands import COMMANDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "bench" / "README.md"])
# Defaults that depend on the machine, as the page tells them.
ELSEWHERE = {"db": "`gapless.db` in your data directory", "base": "the working directory"}


def text_of(path: Path) -> str:
    """Return a file's text."""
    return path.read_text("utf-8")


def code_blocks(path: Path, language: str = "") -> Iterator[str]:
    """Yield the fenced blocks of a page that are in a language."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text_of(path), re.MULTILINE | re.DOTALL):
        if match[1] == language:
            yield match[2]


def setting_row(option: Option) -> str:
    """Return a setting's row of docs/settings.md."""
    name = option.key.rpartition(".")[2]
    if option.key in ELSEWHERE:
        default = ELSEWHERE[option.key]
    elif isinstance(option.default, bool):
        default = f"`{str(option.default).lower()}`"
    elif option.unit == "bytes":
        mib = option.default / (1 << 20)
        default = f"`{mib:g}MiB`" if mib >= 1 else f"`{mib * 1024:g}KiB`"
    elif isinstance(option.default, float):
        default = f"`{option.default:.12g}`"
    elif option.default is None:
        default = "none"
    else:
        default = f"`{option.default}`"
    if get_origin(option.type) is Literal:
        choices = ", ".join(f"`{choice}`" for choice in get_args(option.type))
        return f"| `{name}` | {default} | | {option.doc}: {choices} |"
    return f"| `{name}` | {default} | {option.unit} | {option.doc} |"


def rules() -> dict[int, str]:
    """Return the rules of stitching by number."""
    headings = re.findall(r"^### (\d+)\. (.+)$", text_of(DOCS / "stitching.md"), re.MULTILINE)
    return {int(number): title for number, title in headings}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def words(page: Path) -> set[str]:
    """Return what stands in backticks on a page, and the words of it."""
    quoted = re.findall(r"`([^`\n]+)`", text_of(page))
    return {*quoted, *(word for text in quoted for word in re.findall(r"[\w-]+", text))}


@pytest.mark.parametrize("option", list(options()), ids=lambda option: option.key)
def test_every_setting_is_documented(option: Option) -> None:
    """A setting has a row of its own in its section, with its default, unit and purpose."""
    section = option.key.rpartition(".")[0]
    page = text_of(DOCS / "settings.md")
    heading = f"## `[{section}]`" if section else "## At the top"
    assert heading in page
    part = page.partition(heading)[2].partition("\n## ")[0]
    row = setting_row(option)
    assert row in part, f"docs/settings.md should have under {heading}:\n{row}"


def test_no_setting_is_documented_that_is_not_there() -> None:
    """The page has as many rows as there are settings."""
    rows = re.findall(r"^\| `", text_of(DOCS / "settings.md"), re.MULTILINE)
    assert len(rows) == len(list(options()))


def test_every_scheme_of_the_hubs_address_is_documented() -> None:
    """The page says in which forms `GAPLESS_URL` names a hub."""
    page = text_of(DOCS / "settings.md")
    for scheme in SCHEMES:
        assert re.search(rf"`{re.escape(scheme)}://(TOKEN@)?HOST:PORT`", page)


def test_every_command_of_the_shell_is_documented() -> None:
    """The shell's page names each, as the help does."""
    page = text_of(DOCS / "shell.md")
    for name in COMMANDS:
        assert re.search(rf"`:{name}\b", page), name


def test_every_method_of_the_client_is_documented() -> None:
    """The client's page names each, and each argument of `connect`."""
    page = text_of(DOCS / "client.md")
    for name in (name for name in dir(Client) if not name.startswith("_")):
        assert re.search(rf"\b{name}\b", page), name
    for name in inspect.signature(connect).parameters:
        assert name in page, name


def test_every_wire_error_is_documented() -> None:
    """The protocol's page has each code, with the kind it comes under, and each reason."""
    page = text_of(DOCS / "protocol.md")
    errors: dict[str, type[GaplessError]] = {**WIRE_ERRORS, GaplessError.code: GaplessError}
    for code, error in errors.items():
        row = re.search(rf"^\| `{code}` \| (.+?) \|", page, re.MULTILINE)
        assert row is not None, code
        assert row[1] in (error.kind or "ProviderRequest", "the request's"), code
    assert set(PROVIDER_REASONS) <= words(DOCS / "protocol.md")


def test_every_doubt_is_documented() -> None:
    """The protocol's page has a row for each reason that what is held may be doubtful for."""
    page = text_of(DOCS / "protocol.md")
    assert [doubt for doubt in DOUBTS if f"| `{doubt}` |" not in page] == []


def test_every_word_of_the_protocol_is_documented() -> None:
    """Query types, requests, filters, verbs, keys and an entity's fields are on the page."""
    known = words(DOCS / "protocol.md")
    for group in (QUERY_TYPES, REQUEST_KINDS, FILTER_KINDS, VERBS, SEARCH_KEYS):
        assert set(group) <= known
    assert {*VERB_ALIASES, *KEY_ALIASES} <= known
    assert set(Entity.__struct_fields__) <= known
    assert set(Envelope.__struct_fields__) - {"data_as_array"} | {"data_as"} <= known


def test_every_assumption_about_yahoo_is_documented() -> None:
    """The page has each one as `gapless doctor --upstream` words it."""
    told = re.findall(r"^- (.+)$", text_of(DOCS / "yahoo.md"), re.MULTILINE)
    assert told == [*(one.says for one in ASSUMPTIONS), clock_verdict([]).says]


def test_the_example_lines_are_of_the_language() -> None:
    """Every line of the query language's example can be read."""
    block = next(b for b in code_blocks(DOCS / "protocol.md") if b.startswith("providers\n"))
    for line in block.splitlines():
        parse_line(line)


def test_the_example_requests_are_requests() -> None:
    """Every JSON example with a query is one that the hub takes."""
    requests = [
        block.encode()
        for page in PAGES
        for block in code_blocks(page, "json")
        if '"query"' in block
    ]
    assert len(requests) >= 2
    for request in requests:
        assert isinstance(decode_envelope(request.replace(b"\n", b" ")), Envelope)


def test_the_example_answers_are_json() -> None:
    """Every JSON example can be read."""
    for page in PAGES:
        for block in code_blocks(page, "json"):
            msgspec.json.decode(block)


BODIES: dict[str, type[msgspec.Struct]] = {
    "POST /v1/auth/login": Login,
    "POST /v1/auth/refresh": Refresh,
    "POST /v1/auth/password": NewPassword,
    "POST /v1/tokens": NewApiToken,
    "POST /v1/users": NewUser,
    "PATCH /v1/users/{email}": UserChange,
}


@pytest.mark.parametrize("route", list(BODIES))
def test_the_bodies_about_accounts_are_what_is_taken(route: str) -> None:
    """The page shows each with all of its keys, and the route takes it."""
    page = text_of(DOCS / "authentication.md")
    row = re.search(rf"^\| `{re.escape(route)}` \| `(\{{.+?\}})`", page, re.MULTILINE)
    assert row is not None, f"docs/authentication.md should show the body of {route}"
    body = msgspec.json.decode(row[1])
    msgspec.convert(body, BODIES[route])
    assert set(body) == set(BODIES[route].__struct_fields__)


def test_paths_of_the_source_exist() -> None:
    """A file of the code that a page names is there."""
    for page in PAGES:
        for path in re.findall(r"`((?:src/)?gapless/[\w/]+\.py)`", text_of(page)):
            assert (ROOT / path).is_file(), f"{page.name}: {path}"


def test_requests_for_nc_are_requests() -> None:
    """What the pages pipe into nc is a request whose line can be read."""
    found = 0
    for page in PAGES:
        for match in re.finditer(r"echo '(\{.+\})' \| nc", text_of(page)):
            message = msgspec.json.decode(match[1])
            assert isinstance(decode_envelope(match[1].encode()), Envelope)
            parse_line(message["query"]["payload"]["line"])
            found += 1
    assert found >= 2


def test_the_commands_of_the_readme_exist() -> None:
    """Each `gapless …` and `make …` of the README is a command or a target that there is."""
    readme = text_of(ROOT / "README.md")
    commands = set(build_app())
    for name in re.findall(r"(?:`|\.venv/bin/)gapless (\w+)", readme):
        assert name in commands, f"gapless {name}"
    targets = set(re.findall(r"^([\w-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for name in re.findall(r"(?:`|^)make ([\w-]+)", readme, re.MULTILINE):
        assert name in targets, f"make {name}"


def test_the_queries_of_the_readme_can_be_read() -> None:
    """What the README hands to `gapless query` is in the language."""
    readme = text_of(ROOT / "README.md")
    lines = re.findall(r"^gapless query (.+)$", readme, re.MULTILINE)
    assert lines
    for line in lines:
        parse_line(shlex.split(line)[0])


def test_each_rule_of_stitching_is_there_once() -> None:
    """The rules are numbered 1 to 21, and each says why."""
    assert list(rules()) == list(range(1, 22))
    assert text_of(DOCS / "stitching.md").count("\n*Why.* ") == 21


def test_rules_are_cited_by_numbers_that_exist() -> None:
    """No comment cites a rule that there is not."""
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        # A citation may be broken by the end of a comment's line.
        plain = re.sub(r"\s*\n\s*#?\s*", " ", text_of(path))
        for match in re.finditer(r"stitching rules? ((?:\d+(?:, | and | to )?)+)", plain):
            for number in re.findall(r"\d+", match[1]):
                assert int(number) in rules(), f"{path.name}: {match[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link between files leads to one that exists, and to a heading that is in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def test_the_map_names_files_that_exist() -> None:
    """Each module that the page on the architecture names is there, or is a file's own name."""
    paths = [path.relative_to(ROOT / "src" / "gapless") for path in (ROOT / "src").rglob("*.py")]
    named = set(re.findall(r"`([\w/]+\.py)`", text_of(DOCS / "architecture.md")))
    assert len(named) > 20
    lost = {one for one in named if not any(path.match(one) for path in paths)}
    assert not lost


def test_the_lock_installs_what_it_builds_with() -> None:
    """What is installed first, to build with, is in the whole lock at the same version."""
    pinned = [
        set(re.findall(r"^([\w.-]+==[\w.]+)", text_of(ROOT / "requirements" / name), re.MULTILINE))
        for name in ("build.txt", "dev.txt")
    ]
    assert pinned[0]
    assert pinned[0] <= pinned[1]


@pytest.mark.parametrize("name", ["build.txt", "dev.txt"])
def test_the_lock_has_hashes_and_no_addresses(name: str) -> None:
    """Every pinned package has hashes, and nothing names an index."""
    text = text_of(ROOT / "requirements" / name)
    assert "://" not in text
    assert "index" not in re.sub(r"^[\w.-]+==", "", text, flags=re.MULTILINE)
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in block, block
