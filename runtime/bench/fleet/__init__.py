"""Load on brokers and receivers: many simulated cameras that follow the real protocol."""
