"""Code that makes a process's stdout and stderr unwritable, in several ways."""

__all__ = ["DEAF", "WAYS"]

WAYS = ["gone", "full", "blocked", "closed"]

DEAF = """
import os

def deafen(way):
    if way == "full":
        writer = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, writer = os.pipe()
    if way == "gone":
        os.close(reader)
    if way == "blocked":
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, bytes(4096))
        except BlockingIOError:
            os.set_blocking(writer, True)
    for standard in (1, 2):
        if way == "closed":
            os.close(standard)
        else:
            os.dup2(writer, standard)
"""
