"""The workstation: trains networks, exports them to ONNX, and measures what came out."""
