"""By what a request is known to have come through a proxy, and so from elsewhere, whatever its address says.

Every proxy on this machine has this machine's address. Most of them leave a mark: a header that no browser
and no script sends by itself. One that leaves none, as nginx does unless it is told to, cannot be told apart.
"""

import re
from collections.abc import Iterable

# Forwarded and X-Forwarded-… (all but nginx), X-Real-IP (nginx as most set it), Via (RFC 9110); the rest are
# what gateways, content networks and ingress controllers call the same things.
_NAME = re.compile(
    r"""
    .*forward.* | (?!proxy-conn) .*proxy.*
    | (x-)? (origin(al|ating) | rewrite | real | client | true-client | cluster | remote) (-.+)?
    | (.+-)? via | (x-)? via-.+ | cdn-loop | surrogate-capability | front-end-https
    | (x-)? (url-)? scheme | x-(host | port | https)(-.+)? | (x-)? (ssl | tls)(-.+)?
    | x-(arr | appengine | azure | amz[a-z]* | cloud[a-z]* | envoy | varnish | kong | traefik | ingress)(-.+)?
    | (cf | cloudfront | fastly | tailscale | ali-cdn | fly | akamai)-.+ | x-auth-request-.+
    | .+ -(client | connecting | connection | real)-?ip
    """,
    re.VERBOSE | re.IGNORECASE,
)


def is_of_proxy(name: str) -> bool:
    """Whether only a proxy sends a header of that name, written with dashes or underscores, in any case."""
    return _NAME.fullmatch(name.strip().replace("_", "-")) is not None


def came_by_proxy(names: Iterable[str]) -> bool:
    """Whether a request with headers of these names came through a proxy; what they say does not count."""
    return any(is_of_proxy(name) for name in names)
