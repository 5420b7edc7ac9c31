"""The release gate's users, for Locust by itself.

locust -f loadtests/locustfile.py --host http://127.0.0.1:8000
"""

from headrace.loadtest.locustfile import Caller

__all__ = ["Caller"]
