"""Quantization: int8 and fp16 forms of graphs, and what they cost in use."""
