"""A simulator of the Yahoo chart endpoint: an upstream whose truth is known, for tests and demo."""
