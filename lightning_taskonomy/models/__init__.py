"""Networks: backbones, heads and readouts."""
