"""Hash the passwords of staff."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2Hasher(Argon2PasswordHasher):
    """Hash with Argon2id and the parameters that OWASP recommends.

    Django's defaults take 100 MiB and eight threads for each password. A few sign-ins at the same
    time would then stop a small server.
    """

    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1
