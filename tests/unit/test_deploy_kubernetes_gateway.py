"""How requests get to the listeners of deploy/kubernetes: gateways, routes, certificates, limits."""

import re
from ipaddress import ip_network

import pytest
from kubernetes_objects import Object, container, of_kind, settings_of_pod

from consumers.api.overview_routes import STREAM_PATH
from pipeline.settings import ApiSettings, PublicSettings, Settings

GATEWAYS = {"public": "public", "api": "ops"}


@pytest.fixture(scope="module", params=GATEWAYS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def settings(name: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of_pod(name, tmp_path_factory.mktemp("gateway"))


@pytest.fixture
def listener(name: str, settings: Settings) -> ApiSettings | PublicSettings:
    return settings.api if name == "api" else settings.public


def seconds(duration: str) -> float:
    """A time as the Gateway API writes it."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|h|m|s)", duration))


def https_of(gateway: Object) -> Object:
    (found,) = (one for one in gateway["spec"]["listeners"] if one["protocol"] == "HTTPS")
    return found


def test_a_listener_goes_on_while_requests_still_come(
    name: str, listener: ApiSettings | PublicSettings
) -> None:
    found = container(of_kind("Deployment")[name]["spec"]["template"])
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    assert (listener.host, listener.port) == ("0.0.0.0", ports["http"])
    assert found["lifecycle"]["preStop"]["sleep"]["seconds"] == 5
    (port,) = of_kind("Service")[name]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (listener.port, "http")


def test_its_route_leads_from_its_gateway_to_it(name: str, listener: ApiSettings | PublicSettings) -> None:
    gateway, route = of_kind("Gateway")[GATEWAYS[name]], of_kind("HTTPRoute")[name]["spec"]
    assert route["parentRefs"] == [{"name": GATEWAYS[name], "sectionName": https_of(gateway)["name"]}]
    assert route["hostnames"] == [https_of(gateway)["hostname"]]
    assert {(ref["name"], ref["port"]) for rule in route["rules"] for ref in rule["backendRefs"]} == {
        (name, listener.port)
    }


def test_tls_has_a_certificate_of_its_name(name: str) -> None:
    https = https_of(of_kind("Gateway")[GATEWAYS[name]])
    (ref,) = https["tls"]["certificateRefs"]
    certificate = of_kind("Certificate")[ref["name"]]["spec"]
    assert certificate["secretName"] == ref["name"]
    assert certificate["dnsNames"] == [https["hostname"]]


def test_the_gateway_waits_longer_than_the_listener(
    name: str, listener: ApiSettings | PublicSettings
) -> None:
    """Else its answer would come in place of ours, while work goes on; and no time is without an end."""
    for rule in of_kind("HTTPRoute")[name]["spec"]["rules"]:
        least = listener.answer_timeout_s
        if [match["path"]["value"] for match in rule["matches"]] == [STREAM_PATH]:
            least = listener.stream_s
        assert least < seconds(rule["timeouts"]["request"]) <= least + 60


def test_what_is_not_encrypted_is_sent_on_and_reaches_nothing() -> None:
    plain = {
        (gateway["metadata"]["name"], one["name"])
        for gateway in of_kind("Gateway").values()
        for one in gateway["spec"]["listeners"]
        if one["protocol"] != "HTTPS"
    }
    assert plain == {("public", "http")}
    route = of_kind("HTTPRoute")["public-to-https"]["spec"]
    assert [(ref["name"], ref["sectionName"]) for ref in route["parentRefs"]] == list(plain)
    (rule,) = route["rules"]
    assert "backendRefs" not in rule
    assert rule["filters"][0]["requestRedirect"]["scheme"] == "https"


def test_callbacks_come_in_where_messages_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    base_url = settings_of_pod("notifications", tmp_path_factory.mktemp("base")).public.base_url
    assert base_url == f"https://{https_of(of_kind('Gateway')['public'])['hostname']}"


# --- limits ---------------------------------------------------------------------------------------


def test_limits_that_no_gateway_keeps_are_the_listeners_own() -> None:
    """They were an ingress's annotations once; the Gateway API has no words for them."""
    api, public = ApiSettings(), PublicSettings()
    assert (api.address_requests_per_s, api.address_requests_burst, api.body_bytes_max) == (50, 150, 16_384)
    assert public.body_bytes_max <= 64 * 1024
    assert public.bounce_bytes_max <= 2 * 2**20
    for listener in (api, public):
        assert listener.connections_max <= 2000
        assert listener.requests_max <= 1000
        assert listener.request_timeout_s <= 10


def test_the_api_is_for_private_networks_and_believes_the_gateway_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    api = settings_of_pod("api", tmp_path_factory.mktemp("api")).api
    policy = of_kind("SecurityPolicy")["ops"]["spec"]
    assert [(ref["kind"], ref["name"]) for ref in policy["targetRefs"]] == [("Gateway", "ops")]
    (rule,) = policy["authorization"]["rules"]
    assert policy["authorization"]["defaultAction"] == "Deny"
    assert rule["action"] == "Allow"
    assert rule["principal"]["clientCIDRs"] == list(api.trusted_proxies)
    assert all(ip_network(network).is_private for network in rule["principal"]["clientCIDRs"])
    annotations = of_kind("Gateway")["ops"]["spec"]["infrastructure"]["annotations"]
    assert {value.lower() for value in annotations.values()} == {"internal", "true"}
    assert api.behind_tls


@pytest.mark.parametrize("gateway", of_kind("Gateway"))
def test_paths_stay_as_they_are_and_are_not_logged(gateway: str) -> None:
    """An id with a slash is written %2F; links are capabilities."""
    policy = of_kind("ClientTrafficPolicy")["clients"]["spec"]
    assert ("Gateway", gateway) in {(ref["kind"], ref["name"]) for ref in policy["targetRefs"]}
    assert policy["path"] == {"escapedSlashesAction": "KeepUnchanged", "disableMergeSlashes": True}
    ref = of_kind("Gateway")[gateway]["spec"]["infrastructure"]["parametersRef"]
    proxy = of_kind(ref["kind"])[ref["name"]]["spec"]
    assert proxy["telemetry"]["accessLog"] == {"disable": True}
    assert proxy["provider"]["kubernetes"]["envoyService"] == {"externalTrafficPolicy": "Local"}
