"""The device: takes pictures, sends them over a thin link, receives and shows them."""
