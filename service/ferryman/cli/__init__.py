"""The command line. Modules of commands import what is heavy inside the functions that need it."""
