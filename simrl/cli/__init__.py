"""The `simrl` command: parses its arguments, calls the public functions, prints."""
