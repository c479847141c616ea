"""Who is asking, as the door has found by the key: for endpoints."""

from typing import Annotated

from fastapi import Depends, Request

from cluster.ingress.errors import ApiError
from cluster.ingress.keys import Caller


def tenant_of(request: Request) -> str:
    return _caller(request).tenant


def require_admin(request: Request) -> str:
    """The tenant of an admin's key. Raises ApiError 403 for any other."""
    caller = _caller(request)
    if caller.role != "admin":
        message = (
            "this looks after the whole service and needs a key with `role: admin` "
            "(ingress.api_keys_file)"
        )
        raise ApiError(403, message, "Authorization", "admin_needed")
    return caller.tenant


def _caller(request: Request) -> Caller:
    found = request.state.caller
    assert isinstance(found, Caller)
    return found


Tenant = Annotated[str, Depends(tenant_of)]
Admin = Annotated[str, Depends(require_admin)]
