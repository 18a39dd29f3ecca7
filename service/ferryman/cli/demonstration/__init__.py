"""What `ferryman demo` does: a stack, sixty jobs, a live view, closing books."""
