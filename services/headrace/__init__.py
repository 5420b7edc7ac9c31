"""headrace serves models behind one gateway: Ray Serve places and watches, requests take a direct
channel.
"""

__version__ = "0.1.0"
