"""Speed bench: processor time, memory and disk of what a board and a receiver run."""
