"""Networks that edgesem did not train: a user's own, and Hugging Face encoders."""
