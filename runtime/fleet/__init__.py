"""The view of a whole fleet: who is there and how each camera fares, how streams fall to receivers, accounts."""
