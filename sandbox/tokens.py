"""Issue session tokens: JSON Web Tokens that prove to a server who a person is.

Clerk signs them with RS256. The key is derived from the secret key of the instance, so that it is
the same after a restart.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from dataclasses import dataclass
from functools import cache
from typing import Any

from sandbox.errors import Refusal, problem
from sandbox.sessions import sign_in
from sandbox.state import Json, State

LIFETIME = 60
"""Seconds. Clerk's script in the browser fetches a new token before they are over."""
BITS = 2048
EXPONENT = 65537

_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
"""The prefix of PKCS #1 that marks a digest as SHA-256."""
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
"""The algorithm of the key, in DER: rsaEncryption."""
_SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


def issue(
    state: State, key: Key, user_id: str, *, azp: str | None, lifetime: int = LIFETIME
) -> str:
    """Return a token for the person's active session; without one, sign them in first.

    `azp` is the origin of the page that asked. Clerk leaves it out if there was none. `lifetime` is
    in seconds.

    Raises `Refusal` if the user is banned or locked.
    """
    user = state.user(user_id)
    if user["banned"] or user["locked"]:
        text = "This person cannot sign in: the account is banned or locked."
        raise Refusal(403, problem("user_banned" if user["banned"] else "user_locked", text))
    session = _active_session(state, user_id) or sign_in(state, user_id)
    now = int(state.clock())
    claims: Json = {
        "exp": now + lifetime,
        "fva": [0, -1],
        "iat": now,
        "iss": "https://clerk.sandbox.example",
        "jti": state.new_id("jti"),
        "nbf": now - 10,
        "sid": session["id"],
        "sts": "active",
        "sub": user_id,
        "v": 2,
    }
    return key.signed(claims | ({"azp": azp} if azp else {}))


def _active_session(state: State, user_id: str) -> Json | None:
    sessions = (one for one in state.sessions.values() if one["user_id"] == user_id)
    return next((one for one in sessions if one["status"] == "active"), None)


# --- The key ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """An RSA key that signs tokens, for tests and demos only: it is easy to guess."""

    modulus: int
    private_exponent: int

    def signed(self, claims: Json, **header: Any) -> str:
        """Return a token with any claims. `header` overrides fields of the token's header."""
        parts = [{"alg": "RS256", "kid": "ins_sandbox", "typ": "JWT"} | header, claims]
        text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_encoded(self._signature(text.encode()))}"

    @property
    def public_pem(self) -> str:
        """The public key, as Clerk's dashboard shows it and CLERK_JWT_KEY expects it."""
        numbers = _der(0x30, _integer(self.modulus) + _integer(EXPONENT))
        text = base64.b64encode(_der(0x30, _RSA + _der(0x03, b"\0" + numbers))).decode()
        lines = [text[start : start + 64] for start in range(0, len(text), 64)]
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])

    def _signature(self, message: bytes) -> bytes:
        size = BITS // 8
        end = b"\0" + _SHA256 + hashlib.sha256(message).digest()
        padded = b"\0\1".ljust(size - len(end), b"\xff") + end
        return pow(int.from_bytes(padded), self.private_exponent, self.modulus).to_bytes(size)


@cache
def key_of(secret_key: str) -> Key:
    """Derive the key of an instance. This takes about a second, once in each process."""
    chance = random.Random(f"session tokens of {secret_key}")
    p, q = _prime(chance), _prime(chance)
    return Key(p * q, pow(EXPONENT, -1, (p - 1) * (q - 1)))


def _prime(chance: random.Random) -> int:
    while True:
        # Set the two highest bits, so that the product of two primes has `BITS` bits. Set the
        # lowest bit, because primes are odd.
        candidate = chance.getrandbits(BITS // 2) | (0b11 << (BITS // 2 - 2)) | 1
        if (candidate - 1) % EXPONENT and _is_prime(candidate, chance):
            return candidate


def _is_prime(number: int, chance: random.Random) -> bool:
    """Test small factors, then use the Miller–Rabin test."""
    if any(number % prime == 0 for prime in _SMALL_PRIMES):
        return False
    halvings = (number - 1 & 1 - number).bit_length() - 1
    odd = number - 1 >> halvings
    for _ in range(8):
        power = pow(chance.randrange(2, number - 1), odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(halvings - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def _integer(number: int) -> bytes:
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(size)]) + size + content


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
