"""What gapless knows about ranges, coverage and records, as pure functions: no I/O, no clock."""
