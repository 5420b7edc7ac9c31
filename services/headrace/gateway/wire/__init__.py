"""The formats of bodies, to tensors and back."""
