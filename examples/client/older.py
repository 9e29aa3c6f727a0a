"""The names that users of the older client know.

gapless serve
python examples/client/older.py
"""

from __future__ import annotations

import os

from gapless import AuthConfig, ClientBuilder, send_parsed_query_line_with_auth

LINE = "provider sample search ticker=MSFT date=2012-01-01..2012-02-01"


def main() -> None:
    """Ask the same in three ways."""
    with ClientBuilder(os.environ.get("GAPLESS_URL", "127.0.0.1:7000")).connect() as client:
        print(client.list_providers())
        for answer in (
            client.provider("sample search ticker=MSFT date=2012-01-01..2012-02-01"),
            client.send_line(LINE),
            send_parsed_query_line_with_auth(LINE, client, AuthConfig()),
        ):
            print(answer["ok"], answer["result"][0]["id"])


if __name__ == "__main__":
    main()
