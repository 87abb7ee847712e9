"""What a test sees of the token endpoint and does to it."""

import json
import socket

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser

requests = []
lost = {"answers": 0}


def log_in(get_response):
    """The user that the authorization request names is logged in."""

    def middleware(request):
        name = request.GET.get("login_hint")
        users = get_user_model().objects
        request.user = users.get_or_create(username=name)[0] if name else AnonymousUser()
        return get_response(request)

    return middleware


def note_token_requests(get_response):
    """Notes what is asked of the token endpoint; an answer may be lost after all the work was done."""

    def middleware(request):
        response = get_response(request)
        if request.path != "/token/":
            return response
        is_lost = lost["answers"] > 0
        requests.append(
            {
                "grant": request.POST.get("grant_type"),
                "refreshToken": request.POST.get("refresh_token"),
                "status": response.status_code,
                "error": json.loads(response.content).get("error"),
                "lost": is_lost,
            }
        )
        if is_lost:
            lost["answers"] -= 1
            request.META["server.connection"].shutdown(socket.SHUT_RDWR)
        return response

    return middleware
