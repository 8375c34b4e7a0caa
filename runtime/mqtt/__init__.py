"""MQTT: addresses, connections, and brokers."""
