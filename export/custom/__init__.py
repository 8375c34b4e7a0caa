"""Custom networks, which edgesem did not train: a user's own, and Hugging Face encoders."""
