"""What travels between a device and a round."""
