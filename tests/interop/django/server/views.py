"""What an access token opens, and the commands of a test."""

import json
from datetime import timedelta

from django.conf import settings as django_settings
from django.db.models import F
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.decorators import protected_resource
from oauth2_provider.models import AccessToken, Application, Grant, RefreshToken
from oauth2_provider.settings import oauth2_settings

from . import middleware

SETTINGS = {
    "accessTokenSeconds": "ACCESS_TOKEN_EXPIRE_SECONDS",
    "refreshTokenSeconds": "REFRESH_TOKEN_EXPIRE_SECONDS",
    "graceSeconds": "REFRESH_TOKEN_GRACE_PERIOD_SECONDS",
    "reuseProtection": "REFRESH_TOKEN_REUSE_PROTECTION",
}
GRANTS = {
    "authorization_code": Application.GRANT_AUTHORIZATION_CODE,
    "client_credentials": Application.GRANT_CLIENT_CREDENTIALS,
}


@protected_resource()
def resource(request):
    owner = request.resource_owner
    return JsonResponse({"user": owner.username if owner else None})


def client(id, secret, grant="authorization_code", redirectUri=""):
    """Registers a client, or replaces it."""
    Application.objects.update_or_create(
        client_id=id,
        defaults={
            "client_secret": secret,
            "client_type": Application.CLIENT_CONFIDENTIAL,
            "authorization_grant_type": GRANTS[grant],
            "redirect_uris": redirectUri,
            "skip_authorization": True,
        },
    )


def settings(**changed):
    for name, value in changed.items():
        django_settings.OAUTH2_PROVIDER[SETTINGS[name]] = value
    oauth2_settings.reload()


def revoke(user):
    """Ends everything that the user has authorized, and says how many refresh tokens that were."""
    current = RefreshToken.objects.filter(user__username=user, revoked=None)
    ended = len(current)
    for token in current:
        token.revoke()
    AccessToken.objects.filter(user__username=user).delete()
    Grant.objects.filter(user__username=user).delete()
    return {"ended": ended}


def age(user, seconds):
    """As if that many seconds had passed for the user's tokens."""
    passed = timedelta(seconds=seconds)
    for model in (AccessToken, Grant):
        model.objects.filter(user__username=user).update(expires=F("expires") - passed)
    spent = RefreshToken.objects.filter(user__username=user, revoked__isnull=False)
    spent.update(revoked=F("revoked") - passed)


def lose(answers):
    middleware.lost["answers"] = answers


def requests():
    return middleware.requests


COMMANDS = {f.__name__: f for f in (client, settings, revoke, age, lose, requests)}


@csrf_exempt
def control(request, command):
    answer = COMMANDS[command](**json.loads(request.body or "{}"))
    return JsonResponse({} if answer is None else answer, safe=False)
