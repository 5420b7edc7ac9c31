"""HTTP, and only here: the socket, the routes, the wire formats, admission, and the choice of a
replica.
"""
