"""Read the settings from the environment (.env.example lists every variable).

A secret has no default outside DEBUG: if one is missing, the start fails with one line that says
what to set. CLERK_SECRET_KEY is the exception: without it every save of a linked user fails safely,
and everything else works.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import environ
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")


def _read(read: Any, name: str, what: str, **options: Any) -> Any:
    """Read a variable of the environment.

    Raises `ImproperlyConfigured` with one line that names the variable if its value is wrong.
    """
    try:
        return read(name, **options)
    except (KeyError, ValueError, TypeError):
        raise ImproperlyConfigured(f"{name} must be {what}.") from None


def _flag(name: str, *, default: bool = False) -> bool:
    """Read a boolean. Raises `KeyError` for any word that is not listed here.

    `environ` would read an unknown word as false.
    """
    return {"1": True, "true": True, "": default, "0": False, "false": False}[
        env.str(name, "").lower()
    ]


DEBUG: bool = _read(_flag, "DEBUG", "true or false")


def secret_text(name: str) -> str:
    """Return a secret from the file that `NAME_FILE` names, or from `NAME`; "" without both.

    Raises `ImproperlyConfigured` if both are set, or if the file cannot be read.
    """
    value, path = env.str(name, default="").strip(), env.str(f"{name}_FILE", default="").strip()
    if not path:
        return value
    if value:
        raise ImproperlyConfigured(f"Set {name} or {name}_FILE, not both.")
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ImproperlyConfigured(f"{name}_FILE must name a file that can be read.") from None


def secret(name: str, *, in_debug: str) -> str:
    """Return the value of a secret; under DEBUG `in_debug` is the default.

    Raises `ImproperlyConfigured` if the secret is missing outside DEBUG.
    """
    value = secret_text(name)
    if value:
        return value
    if DEBUG:
        return in_debug
    raise ImproperlyConfigured(f"Set {name} in the environment (see .env.example).")


# --- Django ------------------------------------------------------------------------------------

SECRET_KEY = secret("SECRET_KEY", in_debug="only-for-debug-" + "0123456789abcdef" * 4)
SECRET_KEY_FALLBACKS = list(
    filter(None, map(str.strip, secret_text("SECRET_KEY_FALLBACKS").split(",")))
)
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=[])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
if not DEBUG and not ALLOWED_HOSTS:
    raise ImproperlyConfigured("Set ALLOWED_HOSTS in the environment (see .env.example).")

INSTALLED_APPS = [
    "cascade.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "procrastinate.contrib.django",
    "corsheaders",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "users",
    "staff",  # after the django_otp apps, because it unregisters their admin pages
]

MIDDLEWARE = [
    "cascade.middleware.RequestLogMiddleware",
    "cascade.middleware.DatabaseDownMiddleware",
    "cascade.health.HealthMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "cascade.middleware.BodyLimitMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "staff.middleware.SignInMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "cascade.middleware.ViewerZoneMiddleware",
]

ROOT_URLCONF = "cascade.urls"
WSGI_APPLICATION = "cascade.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

PASSWORD_HASHERS = [
    "staff.hashers.Argon2Hasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # old hashes; the next sign-in renews them
]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "staff.backends.ProviderBackend",
]

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = True  # without LocaleMiddleware: there is one language, whatever a browser asks for
LANGUAGE_CODE = "en-us"
LOCALE_PATHS = [BASE_DIR / "cascade" / "locale"]
FORMAT_MODULE_PATH = ["cascade.formats"]

# --- Sign-in of staff --------------------------------------------------------------------------

LOGIN_URL, LOGIN_REDIRECT_URL = "admin:login", "admin:index"
SESSION_IDLE_SECONDS, SESSION_ABSOLUTE_SECONDS = 8 * 3600, 7 * 86_400
SESSION_COOKIE_AGE = SESSION_ABSOLUTE_SECONDS
PASSWORD_RESET_TIMEOUT = 3600

STAFF_MFA: str = env.str("STAFF_MFA", default="optional")
if STAFF_MFA not in ("optional", "required"):
    raise ImproperlyConfigured("STAFF_MFA must be optional or required.")
OTP_TOTP_ISSUER = "Cascade"
OTP_TOTP_THROTTLE_FACTOR = OTP_STATIC_THROTTLE_FACTOR = 0  # staff.limits counts codes as well

TRUSTED_PROXY_COUNT: int = _read(
    env.int, "TRUSTED_PROXY_COUNT", "a whole number of proxies", default=0
)
if TRUSTED_PROXY_COUNT < 0:
    raise ImproperlyConfigured("TRUSTED_PROXY_COUNT must be a whole number of proxies, 0 or more.")


def _issuer(text: str) -> str:
    """Return the address of an OpenID provider.

    Raises `ImproperlyConfigured` unless it is HTTPS, or HTTP on this machine.
    """
    address = urlparse(text)
    local = address.scheme == "http" and address.hostname in ("127.0.0.1", "localhost")
    if not address.hostname or not (local or address.scheme == "https"):
        raise ImproperlyConfigured(
            "OIDC_ISSUER and OIDC_GROUPS_ISSUERS must be addresses such as "
            "https://login.example.com."
        )
    return text


OIDC_ISSUER = env.str("OIDC_ISSUER", default="").strip()
OIDC_CLIENT_ID = env.str("OIDC_CLIENT_ID", default="").strip()
OIDC_CLIENT_SECRET = secret_text("OIDC_CLIENT_SECRET")
OIDC_NAME = env.str("OIDC_NAME", default="company account").strip()
OIDC_SCOPES = env.str("OIDC_SCOPES", default="openid email profile")
OIDC_EMAIL_DOMAINS: list[str] = [
    domain.strip().lower() for domain in env.list("OIDC_EMAIL_DOMAINS", default=[])
]
OIDC_GROUPS_CLAIM = env.str("OIDC_GROUPS_CLAIM", default="").strip()
OIDC_GROUPS_ISSUERS: list[str] = [
    _issuer(text.strip()) for text in env.list("OIDC_GROUPS_ISSUERS", default=[])
]
if OIDC_ISSUER:
    _issuer(OIDC_ISSUER)
    for _name in ("OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_EMAIL_DOMAINS"):
        if not globals()[_name]:
            raise ImproperlyConfigured(f"Set {_name} in the environment, since OIDC_ISSUER is set.")


def _is_clerk(issuer: str) -> bool:
    """Return whether the issuer has the usual host of a Clerk instance."""
    host = urlparse(issuer).hostname or ""
    return host.startswith("clerk.") or host.endswith((".clerk.accounts.dev", ".clerk.com"))


if any(map(_is_clerk, OIDC_GROUPS_ISSUERS)):
    raise ImproperlyConfigured(
        "OIDC_GROUPS_ISSUERS must not name Clerk: customers have accounts in the same instance."
    )

# --- Mail --------------------------------------------------------------------------------------


def _mail_settings(url: str) -> dict[str, Any]:
    try:
        return dict(env.email_url_config(url))
    except (ValueError, KeyError, ImproperlyConfigured):
        raise ImproperlyConfigured(
            "EMAIL_URL must be an address such as smtp+tls://user:password@mail.example.com:587."
        ) from None


_email_url = secret_text("EMAIL_URL") or ("consolemail://" if DEBUG else "")
MAIL_CAN_BE_SENT = bool(_email_url)  # if false, there is no page for a forgotten password
if MAIL_CAN_BE_SENT:
    globals().update(_mail_settings(_email_url))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="cascade@localhost")

# --- Watching ----------------------------------------------------------------------------------

METRICS_TOKEN = secret_text("METRICS_TOKEN")  # without it there is no page of metrics
ALERT_EMAILS: list[str] = [
    address.strip() for address in env.list("ALERT_EMAILS", default=[]) if address.strip()
]
if ALERT_EMAILS and not MAIL_CAN_BE_SENT:
    raise ImproperlyConfigured("Set EMAIL_URL in the environment, since ALERT_EMAILS is set.")
KEEP_MONTHS: int = _read(env.int, "KEEP_MONTHS", "a whole number of months", default=24)
if KEEP_MONTHS < 1:
    raise ImproperlyConfigured("KEEP_MONTHS must be a whole number of months, 1 or more.")

# --- Database ----------------------------------------------------------------------------------


def _database() -> dict[str, Any]:
    """Configure PostgreSQL, directly or behind pgbouncer in transaction mode.

    Transaction mode has no session state, so there are no prepared statements and no server-side
    cursors.

    Raises `ImproperlyConfigured` if DATABASE_URL is missing or wrong.
    """
    url = secret_text("DATABASE_URL")
    if not url:
        if not DEBUG:
            raise ImproperlyConfigured("Set DATABASE_URL in the environment (see .env.example).")
        from cascade import embedded_postgres

        url = embedded_postgres.url(BASE_DIR / ".postgres")
    try:
        database: dict[str, Any] = env.db_url_config(url)
    except (ValueError, KeyError, ImproperlyConfigured):
        raise ImproperlyConfigured(
            "DATABASE_URL must look like postgres://user:password@host:5432/name."
        ) from None
    if not database["ENGINE"].endswith("postgresql"):
        raise ImproperlyConfigured("DATABASE_URL must be of PostgreSQL: row locks carry the save.")
    database["ENGINE"] = "cascade.database"
    options = database.get("OPTIONS", {})
    if "host" in options:  # the folder of a socket cannot be written as the host of a URL
        database["HOST"] = options.pop("host")
    database["OPTIONS"] = {
        **options,
        "connect_timeout": 5,
        "prepare_threshold": None,
        "pool": {"min_size": 0, "max_size": 20, "timeout": 5, "max_idle": 300},
    }
    database["CONN_HEALTH_CHECKS"] = True
    database["DISABLE_SERVER_SIDE_CURSORS"] = True
    return database


DATABASES = {"default": _database()}


def _schema(name: str) -> str:
    """Read the name of a schema, or "".

    Raises `ValueError` for a name that must be quoted, and for a schema that is not only ours.
    """
    schema = env.str(name, default="").strip()
    if schema and (
        not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", schema)
        or schema in ("public", "information_schema")
        or schema.startswith("pg_")
    ):
        raise ValueError("another name")
    return schema


# Empty: every table is ours. Else `users` and `builder_groups` are those of another application.
CASCADE_SCHEMA: str = _read(
    _schema, "CASCADE_SCHEMA", "the name of a schema of its own, such as cascade, or empty"
)
DATABASE_ROUTERS = ["cascade.database.schemas.SharedTables"]

# --- Clerk -------------------------------------------------------------------------------------


def _is_signing_secret(text: str) -> bool:
    try:
        return bool(base64.b64decode(text.strip().removeprefix("whsec_") + "=="))
    except ValueError:
        return False


CLERK_SECRET_KEY = secret_text("CLERK_SECRET_KEY")
CLERK_API_URL = env.str("CLERK_API_URL", default="https://api.clerk.com/v1").rstrip("/")
if urlparse(CLERK_API_URL).scheme not in ("http", "https"):
    raise ImproperlyConfigured("CLERK_API_URL must be an address such as https://api.clerk.com/v1.")
CLERK_API_VERSION = env.str("CLERK_API_VERSION", default="2026-05-12")
CLERK_WEBHOOK_SIGNING_SECRET = secret(
    "CLERK_WEBHOOK_SIGNING_SECRET", in_debug="whsec_" + "b25seS1mb3ItZGVidWctb25seS1mb3ItZGVidWc="
)
if not all(map(_is_signing_secret, CLERK_WEBHOOK_SIGNING_SECRET.split(","))):
    raise ImproperlyConfigured(
        "CLERK_WEBHOOK_SIGNING_SECRET must be a secret such as whsec_…, or several of them, "
        "comma-separated."
    )
CLERK_EDIT_DEADLINE: float = _read(env.float, "CLERK_EDIT_DEADLINE", "a number", default=8.0)
if CLERK_EDIT_DEADLINE <= 0:
    raise ImproperlyConfigured("CLERK_EDIT_DEADLINE must be a number of seconds above 0.")
CLERK_SETTLE_SECONDS: float = _read(env.float, "CLERK_SETTLE_SECONDS", "a number", default=120.0)
if CLERK_SETTLE_SECONDS < 0:
    raise ImproperlyConfigured("CLERK_SETTLE_SECONDS must be a number of seconds, 0 or more.")
CLERK_RATE_LIMIT: float = _read(
    env.float,
    "CLERK_RATE_LIMIT",
    "a number of requests a second",
    default=10.0 if CLERK_SECRET_KEY.startswith("sk_test_") else 100.0,
)
if CLERK_RATE_LIMIT <= 0:
    raise ImproperlyConfigured("CLERK_RATE_LIMIT must be a number of requests a second above 0.")


def _time_of_day(name: str, *, default: str) -> time | None:
    """Read a time of day in UTC. Return None for an empty value."""
    text = env.str(name, default=default).strip()
    return datetime.strptime(text, "%H:%M").replace(tzinfo=UTC).timetz() if text else None


CLERK_SCAN_AT: time | None = _read(
    _time_of_day, "CLERK_SCAN_AT", "a time of day in UTC such as 03:30, or empty", default="03:30"
)
CLERK_STALE_DAYS: int = _read(env.int, "CLERK_STALE_DAYS", "a whole number of days", default=2)
if CLERK_STALE_DAYS < 1:
    raise ImproperlyConfigured("CLERK_STALE_DAYS must be a whole number of days, 1 or more.")
# A save may wait for a lock until its deadline. Such a wait must not look like a hanging database.
DATABASE_WAIT_SECONDS: float = _read(
    env.float, "DATABASE_WAIT_SECONDS", "a number", default=max(10.0, CLERK_EDIT_DEADLINE + 2)
)
if DATABASE_WAIT_SECONDS <= CLERK_EDIT_DEADLINE:
    raise ImproperlyConfigured(
        "DATABASE_WAIT_SECONDS must be a number of seconds above CLERK_EDIT_DEADLINE."
    )
CLERK_DASHBOARD_URL = env.str("CLERK_DASHBOARD_URL", default="https://dashboard.clerk.com")

# --- The API of the front end ------------------------------------------------------------------


def _public_key(name: str) -> str:
    r"""Read an RSA public key in PEM. A written `\n` may separate its lines.

    Raises `ValueError` for another kind of key.
    """
    text = env.str(name, default="").replace("\\n", "\n").strip()
    if text and not isinstance(load_pem_public_key(text.encode()), RSAPublicKey):
        raise ValueError("a key of another kind")
    return text


def _origins(name: str) -> list[str]:
    origins: list[str] = env.list(name, default=[])
    if not all(re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]+)?", origin) for origin in origins):
        raise ValueError("something else than an origin")
    return origins


CLERK_JWT_KEY: str = _read(
    _public_key, "CLERK_JWT_KEY", "an RSA public key in PEM: -----BEGIN PUBLIC KEY-----…"
)
CORS_ALLOWED_ORIGINS: list[str] = _read(
    _origins, "CORS_ALLOWED_ORIGINS", "origins such as https://app.example.com, comma-separated"
)
CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_METHODS = ["PATCH", "POST"]
CORS_ALLOW_HEADERS = ["authorization", "content-type"]
CORS_EXPOSE_HEADERS = ["Retry-After"]


# --- Background jobs ---------------------------------------------------------------------------

# LISTEN/NOTIFY needs session state, which pgbouncer in transaction mode does not keep.
PROCRASTINATE_WORKER_DEFAULTS = {
    "listen_notify": False,
    "fetch_job_polling_interval": 2.0,
    "delete_jobs": "successful",
    "concurrency": 2,
}

# --- Security ----------------------------------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
# Without a proxy of ours, X-Forwarded-Proto is what the client claims.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXY_COUNT else None
SECURE_SSL_REDIRECT: bool = _read(_flag, "SSL_REDIRECT", "true or false", default=not DEBUG)
SECURE_HSTS_SECONDS: int = _read(
    env.int, "HSTS_SECONDS", "a whole number of seconds", default=0 if DEBUG else 31_536_000
)
# Both are about other hosts of the domain, and are hard to take back.
SECURE_HSTS_INCLUDE_SUBDOMAINS: bool = _read(_flag, "HSTS_INCLUDE_SUBDOMAINS", "true or false")
SECURE_HSTS_PRELOAD: bool = _read(_flag, "HSTS_PRELOAD", "true or false")
if SECURE_HSTS_SECONDS < 0:
    raise ImproperlyConfigured("HSTS_SECONDS must be a whole number of seconds, 0 or more.")
if SECURE_HSTS_PRELOAD and not (
    SECURE_HSTS_INCLUDE_SUBDOMAINS and SECURE_HSTS_SECONDS >= 31_536_000
):
    raise ImproperlyConfigured(
        "HSTS_PRELOAD needs HSTS_INCLUDE_SUBDOMAINS=true, and HSTS_SECONDS of a year or more."
    )
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # subdomains and preload are a choice
DATA_UPLOAD_MAX_MEMORY_SIZE = 2**20  # bytes; BodyLimitMiddleware also counts files
CSRF_FAILURE_VIEW = "staff.views.csrf_failure"
DEFAULT_EXCEPTION_REPORTER_FILTER = "cascade.reports.AlwaysSafe"

# --- Static files ------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG

# --- Logging -----------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "class": "cascade.logs.WithoutValues",
            "format": "%(asctime)s %(levelname)s %(name)s: %(message)s",
        },
        "json": {"class": "cascade.logs.JsonLines"},
    },
    "filters": {"short": {"()": "cascade.logs.ShortRefusals"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line" if DEBUG else "json",
            "filters": ["short"],
        }
    },
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO").upper()},
    "loggers": {
        "django": {"level": "INFO"},  # no handlers of Django's: they print values
        # At INFO these loggers write URLs, which can contain email addresses.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
        "embedded_postgres": {"level": "WARNING"},
        "procrastinate": {"level": "WARNING"},
        "django.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
    },
}
