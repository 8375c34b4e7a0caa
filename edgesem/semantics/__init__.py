"""What a picture means: embeddings, and text that is compared with them."""
