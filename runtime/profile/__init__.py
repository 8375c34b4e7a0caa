"""What the stages of the codec take on this board: time, memory and, where a sensor stands, joules."""
