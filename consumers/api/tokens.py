"""JSON Web Tokens, made by `postorder api token`, read by the API: one algorithm, our own keys.

RFC 8725 (best current practices) is followed to the letter: the algorithm is fixed here and never taken from
the token; a key is found by its `kid` among ours alone; `exp`, `nbf`, `iat`, `iss`, `aud` and `sub` must be
there and of the right type; a token says how long it lives, and lives an hour at most.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Annotated, Any, Final
from uuid import uuid4

import jwt
import msgspec
from msgspec import Meta

from consumers.api.callers import Access, Caller
from pipeline.clock import Clock
from pipeline.errors import SettingsError, TokenError
from pipeline.settings import ApiSettings

ALGORITHM: Final = "HS256"
TOKEN_CHARS_MAX: Final = 2048
_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]{43}")
_SUBJECT: Final = r"\A[A-Za-z0-9._@:/-]{1,100}\Z"
_REQUIRED: Final = ["exp", "nbf", "iat", "iss", "aud", "sub"]
_REASONS: Final = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not yet valid",
    jwt.InvalidSignatureError: "bad signature",
    jwt.InvalidAudienceError: "for somebody else",
    jwt.InvalidIssuerError: "from somebody else",
    jwt.MissingRequiredClaimError: "a claim is missing",
}


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token says. Times are whole seconds since 1970, UTC."""

    iss: str
    aud: str
    sub: Annotated[str, Meta(pattern=_SUBJECT)]
    role: Access
    iat: Annotated[int, Meta(ge=0)]
    nbf: Annotated[int, Meta(ge=0)]
    exp: Annotated[int, Meta(ge=0)]
    jti: Annotated[str, Meta(min_length=1, max_length=64)]


def key_id(secret: str) -> str:
    """Return the `kid` of a key: it follows from the key, so that changing the key changes it."""
    return sha256(b"postorder api key\0" + secret.encode()).hexdigest()[:16]


def make_token(settings: ApiSettings, *, subject: str, access: Access, lifetime_s: int, clock: Clock) -> str:
    """Return a token, signed by `api.secret`. Raises SettingsError for what the API would refuse."""
    problems = []
    if not settings.secret:
        problems.append("api.secret: is missing: set POSTORDER_API_SECRET or api.secret_file")
    if not re.search(_SUBJECT, subject):
        problems.append("--subject: must be 1 to 100 letters, digits or . _ @ : / -")
    if not 1 <= lifetime_s <= settings.token_lifetime_s:
        problems.append(f"--ttl: must be from 1s to api.token_lifetime_s, {settings.token_lifetime_s} s")
    if problems:
        raise SettingsError(problems)
    now = int(clock.now().timestamp())
    claims = Claims(
        iss=settings.issuer,
        aud=settings.audience,
        sub=subject,
        role=access,
        iat=now,
        nbf=now,
        exp=now + lifetime_s,
        jti=uuid4().hex,
    )
    headers = {"kid": key_id(settings.secret)}
    return jwt.encode(msgspec.to_builtins(claims), settings.secret, algorithm=ALGORITHM, headers=headers)


class TokenReader:
    """Tells who a token is of."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._keys = _keys((settings.secret, settings.secret_previous))
        self._refused = frozenset(settings.refused_subjects)

    def read(self, token: str) -> Caller:
        """Return whose a token is. Raises TokenError; its text repeats nothing of the token."""
        key = self._key_of(token)
        try:
            found = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway_s,
                options={"require": _REQUIRED, "strict_aud": True, "enforce_minimum_key_length": True},
            )
            # The library takes times that are texts or fractions.
            claims = msgspec.convert(found, Claims, strict=True)
        except jwt.InvalidTokenError as error:
            raise TokenError(_REASONS.get(type(error), "malformed")) from None
        except msgspec.ValidationError:
            raise TokenError("a claim is not valid") from None
        self._check(claims)
        return Caller(subject=claims.sub, access=claims.role, expires_at=claims.exp)

    def _key_of(self, token: str) -> str:
        """Return the key that a token names. Its header may say what is needed, and nothing more."""
        if len(token) > TOKEN_CHARS_MAX or not _SHAPE.fullmatch(token):
            raise TokenError("malformed")
        try:
            header: Mapping[str, Any] = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, RecursionError):
            raise TokenError("malformed") from None
        kid = header.get("kid")
        if header != {"alg": ALGORITHM, "typ": "JWT", "kid": kid}:
            raise TokenError("another algorithm or header")
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise TokenError("unknown key")
        return key

    def _check(self, claims: Claims) -> None:
        if not 0 < claims.exp - claims.iat <= self._settings.token_lifetime_s or claims.nbf > claims.exp:
            raise TokenError("lives too long")
        if claims.sub in self._refused:
            raise TokenError("subject refused")


def _keys(secrets: Iterable[str]) -> dict[str, str]:
    return {key_id(secret): secret for secret in secrets if secret}
