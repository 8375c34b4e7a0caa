"""How good a decoded picture is: distortion metrics, and networks as judges."""
