"""Make the pictures of the shell in docs/pictures: a real shell, a real hub, a real terminal.

`make pictures` runs it. What is on the terminal's screen is drawn as SVG, character by character.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.style import Style
from rich.text import Text

from support.commands import hub
from support.terminals import COLUMNS, CTRL_C, Cell, Terminal, terminal

OUT = Path(__file__).parent.parent / "docs" / "pictures"
SEARCH = "provider sample search ticker=AAPL date=2009-01-01..2012-01-01"
# rich's own one fetches a font from elsewhere; each character has its place, so any will do.
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_NAMES = {"brown": "yellow", "brightbrown": "bright_yellow"}


def picture(shell: Terminal, title: str) -> str:
    """Return what is on a terminal's screen as SVG, without the empty lines at its end."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="256"
        )
        rows = [_row(row) for row in shell.cells()]
        while rows and not rows[-1].plain.strip():
            rows.pop()
        for row in rows:
            console.print(row, no_wrap=True, crop=True, end="\n")
        return console.export_svg(title=title, code_format=SVG, unique_id="shell")


def _row(cells: list[Cell]) -> Text:
    text = Text()
    for cell in cells:
        style = Style(
            color=_colour(cell.colour),
            bgcolor=_colour(cell.ground),
            bold=cell.bold,
            underline=cell.underlined,
        )
        text.append(cell.text, style)
    return text


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    if len(name) == 6 and all(char in "0123456789abcdef" for char in name):
        return f"#{name}"
    return _NAMES.get(name, name.replace("bright", "bright_"))


async def main() -> None:
    """Make them all."""
    OUT.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        async with hub(Path(folder) / "prices.db") as running:
            with terminal("shell", "--tcp", running.tcp, folder=home, rows=34) as shell:
                shell.run("provider sample search ticker=AAPL date=2010-01-01..2011-01-01")
                shell.clear()
                shell.show(SEARCH, "756 rows")
                shell.show(":coverage sample AAPL", "█ held")
                shell.show("provider sample serch ticker=IBM", "^^^^^")
                _write("shell-query.svg", picture(shell, "gapless shell"))
                shell.clear()
                shell.show(":plot", "2009-01-02")
                _write("shell-plot.svg", picture(shell, "gapless shell"))
            with terminal("shell", "--tcp", running.tcp, folder=home, rows=10) as shell:
                shell.ready()
                shell.keys("provider sample search ticker=AAPL da")
                shell.until(
                    lambda: all(text in shell.screen for text in ("its range", "search ticker=…")),
                    "what may come next",
                )
                _write("shell-completion.svg", picture(shell, "gapless shell"))
                shell.keys(CTRL_C)


def _write(name: str, svg: str) -> None:
    (OUT / name).write_text(svg, "utf-8")
    sys.stderr.write(f"{OUT / name}\n")


if __name__ == "__main__":
    asyncio.run(main())
