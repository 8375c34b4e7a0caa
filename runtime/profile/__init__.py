"""Profile of coding on this board: time, memory and, where there is a power sensor, energy."""
