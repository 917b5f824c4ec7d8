"""How many requests a Sentinel has counted: a blocked call is one, no SDK may resend it."""

import time
import urllib.request


def requests_seen(admin):
    """A request is counted when its answer has been sent in full."""
    text = urllib.request.urlopen(f"{admin}/metrics").read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("sentinel_requests_total{"))


def expect_requests(admin, count):
    deadline = time.monotonic() + 20
    while requests_seen(admin) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert requests_seen(admin) == count, f"{requests_seen(admin)} requests instead of {count}"
