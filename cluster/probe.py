"""`python -m cluster.probe URL...`: whether each of them answers 200, for probes of containers.

They are reached directly: a proxy of the environment knows nothing of this container.
"""

import sys
from urllib.request import ProxyHandler, build_opener

TIMEOUT_S = 8.0


def main(urls: list[str]) -> int:
    """0, or 1 after saying which one did not and why."""
    opener = build_opener(ProxyHandler({}))
    for url in urls:
        try:
            with opener.open(url, timeout=TIMEOUT_S):
                pass
        except OSError as error:  # an HTTP status of 400 and above among them
            print(f"{url}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
