"""Quality of decoded pictures: distortion metrics, and networks as judges."""
