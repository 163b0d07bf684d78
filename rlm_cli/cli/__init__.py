"""The command line: the only rooms that know Typer. Import nothing here, each command imports what it needs."""
