"""Every documented route against thousands of generated requests, by its own description."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from gapless.app import running_hub
from gapless.config import Settings, YahooSettings
from support.people import PASSWORD, api_token
from support.wire import PATIENT

SUPPORT = Path(__file__).parents[1] / "support"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "use_after_free",
    "ensure_resource_availability",
)
PLUGIN = """
class Provider:
    def name(self):
        return "dummy"

    def fetch(self, ticker, start, end):
        return [{"timestamp": start, "value": 1}]
"""


# It would revoke the very token that the requests are sent with.
ENDS_ITSELF = "DELETE /v1/tokens/{number}"


async def holds(folder: Path, examples: int, auth: bool = False) -> None:
    """Run schemathesis against a hub, and fail with all that it says where it finds anything.

    With `auth` it has the token of an administrator's program.
    """
    (folder / "dummy.py").write_text(PLUGIN)
    settings = Settings(
        db=str(folder / "hub.db"),
        tcp="127.0.0.1:0",
        http="127.0.0.1:0",
        auth=auth,
        base=folder,
        yahoo=YahooSettings(enabled=False),
        plugins=PATIENT.plugins,
    )
    seed = str(secrets.randbits(32))
    async with running_hub(settings) as hub:
        shown: tuple[str, ...] = ()
        if auth:
            await hub.authority.users.add("ann@example.com", PASSWORD, "admin", "test")
            token = await api_token(hub.authority, "ann@example.com")
            header = f"Authorization: Bearer {token}"
            shown = ("--header", header, "--exclude-name", ENDS_ITSELF)
        process = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("schemathesis")), "--no-color"),
            *("--config-file", str(SUPPORT / "schemathesis.toml")),
            *("run", f"{hub.http}/openapi.json", "--checks", ",".join(CHECKS), *shown),
            *("--max-examples", str(examples), "--seed", seed, "--continue-on-failure"),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await process.communicate()
    assert process.returncode == 0, f"seed {seed}\n{said.decode()}"
    assert b"No operations" not in said
    assert b" passed" in said


@pytest.mark.slow
async def test_the_description_holds(tmp_path: Path) -> None:
    """No server error, no undocumented answer, nothing wrong accepted, nothing gone still there."""
    await holds(tmp_path, 15)


@pytest.mark.slow
async def test_the_description_holds_with_authentication(tmp_path: Path) -> None:
    """The same for a program that shows a token, and for what it may not."""
    await holds(tmp_path, 10, auth=True)


@pytest.mark.soak
async def test_the_description_holds_for_long(tmp_path: Path) -> None:
    """The same, with many more requests."""
    await holds(tmp_path, 500)
