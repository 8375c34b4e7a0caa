"""Messages beside packets: topics, acknowledgements, birth, state and command; no part of it moves them."""
