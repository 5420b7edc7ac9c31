"""The values that gateway and replica exchange: requests, answers, tensors, statistics."""
