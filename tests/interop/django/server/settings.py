"""Django's settings. Everything lies in memory, and the tables are made without migrations."""

SECRET_KEY = "of-a-server-that-lives-for-one-test"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "server.urls"
MIDDLEWARE = ["server.middleware.log_in", "server.middleware.note_token_requests"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "oauth2_provider": None}
# Client secrets are stored as hashes, which need not be slow here.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

OAUTH2_PROVIDER = {
    "SCOPES": {"read": "read", "write": "write"},
    "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
    "REFRESH_TOKEN_EXPIRE_SECONDS": 86400,
    "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    # A lifetime that a test sets counts at once.
    "ALWAYS_RELOAD_OAUTHLIB_CORE": True,
}
