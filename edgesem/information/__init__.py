"""Semantic information: exact for discrete sources, estimated for pictures, each number beside its classical one.

`discrete`: entropy and mutual information over sets of synonymous symbols. `blahut`: capacity and rate-distortion by
Blahut and Arimoto's iterations. `perception`: rate, distortion and realism at once. `closed`: the cases that have a
formula. `estimate`: what can be said from samples, and when nothing can.
"""
