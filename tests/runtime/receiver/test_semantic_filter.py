"""Semantic filter: frames that fit a query pass, and those without an embedding."""

from edgesem.semantics.embedding import to_bytes
from runtime.receiver.semantic_filter import SemanticFilter
from tests.support.embeddings import labels, packet, vector


def test_what_fits_a_query_passes_and_what_has_no_embedding():
    only = SemanticFilter([labels().query_of("x", vector(7))])
    assert only.passes(packet(embedding=to_bytes(vector(7))))
    assert not only.passes(packet(embedding=to_bytes(-vector(7))))
    assert only.passes(packet())
    assert only.figures() == {"passed": 1, "left": 1, "unknown": 1}
