"""Access: keys and their limits, the file that holds them, and the data port's certificate."""

from headrace.keys.file import read_keys
from headrace.keys.key import Key
from headrace.keys.ring import KeyRing
from headrace.keys.tls import follow_certificate, make_context
from headrace.keys.watch import follow

__all__ = ["Key", "KeyRing", "follow", "follow_certificate", "make_context", "read_keys"]
