"""The shell: a hub asked by a person, line by line; and how answers look on a terminal."""
