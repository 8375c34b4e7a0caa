"""The sender: frames in, packets out."""
