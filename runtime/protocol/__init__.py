"""What travels beside packets: topics, acknowledgements, births, states, commands."""
