from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2Hasher(Argon2PasswordHasher):
    """Argon2id with the parameters that OWASP recommends.

    Django's defaults take 100 MiB and eight threads a password, which a few sign-ins at once turn
    into an outage of a small server.
    """

    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1
