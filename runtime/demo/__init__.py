"""The demo: a sender and a receiver over a shaped link on one machine."""
