"""Events that can be told, and the listeners that make metrics and logs of them."""
