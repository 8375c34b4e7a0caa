"""ONNX graphs: writing, editing, counting, and proving them exact."""
