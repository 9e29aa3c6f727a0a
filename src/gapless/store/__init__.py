"""What the hub keeps: series, their coverage and their blocks, in one database."""
