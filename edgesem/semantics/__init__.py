"""Semantics: embeddings of pictures, and text that is compared with them."""
