"""Made-up embeddings, labels with them, and packets that carry them."""

import numpy as np

from edgesem.packet.packet import Packet
from edgesem.packet.side_information import SideInformation
from edgesem.semantics.embedding import DIMENSIONS, Labels


def vector(seed):
    found = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return found / np.linalg.norm(found)


def labels(names=("tench, Tinca tinca", "sports car, sport car", "car", "pickup, pickup truck", "dog")):
    vectors = np.stack([vector(i) for i in range(len(names))])
    pictures = np.stack([vector(100 + i) for i in range(64)])
    eye = np.eye(DIMENSIONS, dtype=np.float32)
    return Labels(tuple(names), vectors, np.zeros(DIMENSIONS, np.float32), eye, "none", pictures)


def packet(frame=1, embedding=b"", time_ms=5, layers=1):
    return Packet(
        bundle_id=1, epoch=3, frame=frame, time_ms=time_ms, width=64, height=64, q=9, total_layers=4, first_layer=0,
        chunks=(b"abc",) * layers, side_info=SideInformation(embedding=embedding),
    )  # fmt: skip
