"""Semantic information: exact for discrete sources, estimated for pictures, each number beside its classical one.

`discrete`: entropy and mutual information over sets of synonymous symbols. `blahut`: capacity and rate-distortion by
Blahut and Arimoto's iterations. `estimate`: what can be said from samples, and when nothing can.
"""
