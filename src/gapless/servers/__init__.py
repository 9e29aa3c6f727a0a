"""The doors: programs come in here, and what they get goes out in the words of the wire."""
