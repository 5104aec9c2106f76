"""Tokens: what is accepted, and the corpus of what is not."""

import base64
import json
import time
from typing import Any

import jwt
import msgspec
import pytest
from api_site import SECRET, SECRET_BEFORE, api_settings

from consumers.api.callers import Access
from consumers.api.tokens import TOKEN_CHARS_MAX, TokenReader, key_id, make_token
from pipeline.clock import SystemClock
from pipeline.errors import SettingsError, TokenError

MISSING = object()


def token(
    key: str = SECRET, *, headers: dict[str, Any] | None = None, algorithm: str = "HS256", **changes: Any
) -> str:
    """A good token but for some changes of its claims."""
    now = int(time.time())
    claims = {
        "iss": "postorder", "aud": "postorder-api", "sub": "ada", "role": "read",
        "iat": now, "nbf": now, "exp": now + 600, "jti": "1",
    }  # fmt: skip
    claims = {name: value for name, value in (claims | changes).items() if value is not MISSING}
    given = {"kid": key_id(SECRET)} if headers is None else headers
    # By hand: the library refuses to make some of these.
    head = encoded({"alg": algorithm, "typ": "JWT", **given})
    body = f"{head}.{encoded(claims)}"
    return f"{body}.{signature(body, key)}"


def encoded(value: Any) -> str:
    return base64url(json.dumps(value).encode())


def base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signature(signed: str, key: str) -> str:
    return base64url(
        jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed.encode(), key.encode())
    )


def read(text: str, **changes: Any) -> Any:
    return TokenReader(api_settings(**changes)).read(text)


def in_s(seconds: int) -> int:
    return int(time.time()) + seconds


@pytest.mark.parametrize("access", list(Access))
def test_a_token_that_was_made_is_accepted(access: Access) -> None:
    made = make_token(api_settings(), subject="ada@ops", access=access, lifetime_s=900, clock=SystemClock())
    caller = read(made)
    assert (caller.subject, caller.access) == ("ada@ops", access)
    assert 890 < caller.expires_at - time.time() <= 900


def test_a_role_covers_those_below_it() -> None:
    assert [[one.covers(other) for other in Access] for one in Access] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_while_keys_change_both_are_accepted_and_no_third() -> None:
    before = token(SECRET_BEFORE, headers={"kid": key_id(SECRET_BEFORE)})
    assert read(token()).subject == read(before).subject == "ada"
    with pytest.raises(TokenError, match="unknown key"):
        read(before, secret_previous="")
    with pytest.raises(TokenError, match="unknown key"):
        read(token("x" * 40, headers={"kid": key_id("x" * 40)}))


def test_the_clock_of_who_made_it_may_be_a_little_off() -> None:
    assert read(token(iat=in_s(20), nbf=in_s(20)))
    assert read(token(iat=in_s(-300), nbf=in_s(-300), exp=in_s(-20)))


def bad() -> dict[str, dict[str, Any]]:
    """Changes of a good token, made when they are needed: tests may begin minutes after they were read."""
    return {
        "expired": {"exp": in_s(-61), "iat": in_s(-600)},
        "of no end": {"exp": MISSING},
        "of an end that is null": {"exp": None},
        "of an end that is text": {"exp": str(in_s(600))},
        "of an end that is a fraction": {"exp": in_s(600) + 0.5},
        "of an end that is true": {"exp": True},
        "of an end beyond numbers": {"exp": 1e308},
        "of a negative end": {"exp": -1},
        "for ten years": {"exp": in_s(315_360_000)},
        "for more than an hour": {"exp": in_s(3700)},
        "of the future": {"nbf": in_s(300)},
        "made in the future": {"iat": in_s(300), "nbf": in_s(300)},
        "that ends before it begins": {"nbf": in_s(10), "exp": in_s(5)},
        "without nbf": {"nbf": MISSING},
        "without iat": {"iat": MISSING},
        "for nobody": {"aud": MISSING},
        "for somebody else": {"aud": "another-api"},
        "for more than us": {"aud": ["postorder-api", "another"]},
        "for a list of us": {"aud": ["postorder-api"]},
        "for a part of our name": {"aud": "postorder"},
        "of nobody's making": {"iss": MISSING},
        "of another's making": {"iss": "postorder/"},
        "of several makers": {"iss": ["postorder"]},
        "of nobody": {"sub": MISSING},
        "of an empty name": {"sub": ""},
        "of a number": {"sub": 7},
        "of a name with a line end": {"sub": "ada\n"},
        "of a long name": {"sub": "a" * 101},
        "without a role": {"role": MISSING},
        "of an unknown role": {"role": "root"},
        "of a role in capitals": {"role": "READ"},
        "of two roles": {"role": ["read", "admin"]},
        "without an id": {"jti": MISSING},
        "with a claim too many": {"scope": "everything"},
        "of deep claims": {"scope": [[[[[[[[[[]]]]]]]]]]},
    }


@pytest.mark.parametrize("name", bad())
def test_a_token_is_refused(name: str) -> None:
    with pytest.raises(TokenError) as caught:
        read(token(**bad()[name]))
    assert "ada" not in str(caught.value)


HEADERS: dict[str, dict[str, Any]] = {
    "no kid": {},
    "a kid that is a number": {"kid": 1},
    "a kid that is a list": {"kid": [key_id(SECRET)]},
    "a kid that is a path": {"kid": "../../etc/passwd"},
    "a kid that is SQL": {"kid": "' OR 1=1 --"},
    "an embedded key": {"kid": key_id(SECRET), "jwk": {"kty": "oct", "k": "AAAA"}},
    "a URL of keys": {"kid": key_id(SECRET), "jku": "http://127.0.0.1:1/keys"},
    "a URL of certificates": {"kid": key_id(SECRET), "x5u": "http://127.0.0.1:1/x"},
    "something critical": {"kid": key_id(SECRET), "crit": ["b64"], "b64": False},
    "packed": {"kid": key_id(SECRET), "zip": "DEF"},
    "another type": {"kid": key_id(SECRET), "typ": "at+jwt"},
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_a_header_says_what_is_needed_and_nothing_more(headers: dict[str, Any]) -> None:
    with pytest.raises(TokenError):
        read(token(headers=headers))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "HS384", "HS512", "RS256", "ES256", "EdDSA", ""]
)
def test_no_other_algorithm(algorithm: str) -> None:
    with pytest.raises(TokenError):
        read(token(algorithm=algorithm))


def test_no_algorithm_and_no_signature() -> None:
    head, claims, _ = token(algorithm="none").split(".")
    for text in (f"{head}.{claims}.", f"{head}.{claims}"):
        with pytest.raises(TokenError, match="malformed"):
            read(text)


def mangled() -> dict[str, str]:
    good = token()
    head, claims, mark = good.split(".")
    flipped = mark[:-2] + ("A" if mark[-2] != "A" else "B") + mark[-1]
    richer = encoded({**json.loads(base64.urlsafe_b64decode(claims + "==")), "role": "admin"})
    return {
        "empty": "",
        "a word": "token",
        "two parts": f"{head}.{claims}",
        "four parts": f"{good}.{mark}",
        "five parts, as of JWE": f"{good}.{mark}.{mark}",
        "a bit flipped": f"{head}.{claims}.{flipped}",
        "claims changed": f"{head}.{richer}.{mark}",
        "padded": f"{good}=",
        "spaces": f" {good}",
        "a line end": f"{good}\n",
        "shortened": good[:-1],
        "lengthened": f"{good}A",
        "another alphabet": good.replace("_", "/").replace("-", "+") + "+",
        "no JSON": f"{base64url(b'no')}.{claims}.{mark}",
        "a header of text": f"{base64url(b'1')}.{claims}.{mark}",
        "deep JSON": f"{base64url(b'[' * 1000)}.{claims}.{mark}",
        "huge": "A" * 5_000_000,
        "huge and of three parts": f"{head}.{'A' * TOKEN_CHARS_MAX}.{mark}",
        "no ASCII": good[:-1] + "é",
        "NUL": good[:-1] + "\0",
    }


@pytest.mark.parametrize("what", mangled())
def test_what_is_no_token_is_refused(what: str) -> None:
    began = time.process_time()
    with pytest.raises(TokenError):
        read(mangled()[what])
    assert time.process_time() - began < 1


def test_a_good_token_that_is_longer_than_any_of_ours_is_refused() -> None:
    head, claims, _ = token().split(".")
    spaces = b" " * TOKEN_CHARS_MAX
    body = f"{head}.{base64url(base64.urlsafe_b64decode(claims + '==') + spaces)}"
    with pytest.raises(TokenError, match="malformed"):
        read(f"{body}.{signature(body, SECRET)}")


def test_claims_that_are_no_object() -> None:
    body = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': key_id(SECRET)})}.{base64url(b'[]')}"
    with pytest.raises(TokenError):
        read(f"{body}.{signature(body, SECRET)}")


def test_a_subject_can_be_refused_before_its_token_ends() -> None:
    with pytest.raises(TokenError, match="subject refused"):
        read(token(), refused_subjects=("ada",))


def test_what_the_api_would_refuse_is_not_made() -> None:
    settings = api_settings()
    for changes in ({"subject": ""}, {"subject": "a b"}, {"lifetime_s": 0}, {"lifetime_s": 3601}):
        given = {"subject": "ada", "access": Access.READ, "lifetime_s": 60, "clock": SystemClock(), **changes}
        with pytest.raises(SettingsError):
            make_token(settings, **given)
    with pytest.raises(SettingsError, match=r"api\.secret"):
        make_token(
            msgspec.structs.replace(settings, secret=""), **{**given, "lifetime_s": 60, "subject": "ada"}
        )


def test_a_key_names_itself_without_giving_itself_away() -> None:
    assert key_id(SECRET) != key_id(SECRET_BEFORE)
    assert len(key_id(SECRET)) == 16
