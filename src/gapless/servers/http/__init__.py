"""The HTTP door: the same answers as over TCP, bulk formats, and what operators need."""
