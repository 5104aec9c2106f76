"""The emulator seen by the unmodified twilio SDK and checked against Twilio's own OpenAPI document."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import jsonschema
import pytest
from emulated_twilio import SERVICE, SID, TOKEN, emulated
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

# The SDK's async client authenticates in a way that aiohttp has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:BasicAuth is deprecated:DeprecationWarning",
    "ignore:The 'auth' parameter is deprecated:DeprecationWarning",
)

SENDER = "+15005550006"
OPENAPI = json.loads((Path(__file__).parents[1] / "data/twilio/messages_openapi.json").read_text())


def as_json_schema(node):
    """OpenAPI 3.0 says `nullable`; JSON Schema has a type for that."""
    if isinstance(node, list):
        return [as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: as_json_schema(value) for key, value in node.items()}
    if node.pop("nullable", False):
        node["type"] = [node["type"], "null"]
    return node


DOCUMENT = as_json_schema(OPENAPI)
MESSAGE = DOCUMENT["components"]["schemas"]["api.v2010.account.message"]


def check_response(method, path, status, text):
    """Every success must match the schema of its operation, with no property missing or extra."""
    if status >= 400:
        return
    template = "/2010-04-01/Accounts/{AccountSid}/Messages"
    template += ".json" if path.endswith("/Messages.json") else "/{Sid}.json"
    response = DOCUMENT["paths"][template][method.lower()]["responses"][str(status)]
    if "content" not in response:
        assert text == ""
        return
    schema = response["content"]["application/json"]["schema"]
    body = json.loads(text)
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(body)
    for message in body.get("messages", [body]):
        assert message.keys() == MESSAGE["properties"].keys()


class CheckedClient(TwilioHttpClient):
    """The SDK's own client, sent to the emulator instead of api.twilio.com."""

    def __init__(self, url):
        super().__init__(timeout=10)
        self.url = url

    def request(self, method, url, **options):
        url = url.replace("https://api.twilio.com", self.url)
        response = super().request(method, url, **options)
        check_response(method, url.partition("?")[0], response.status_code, response.text)
        return response


class CheckedAsyncClient(AsyncTwilioHttpClient):
    def __init__(self, url):
        super().__init__()
        self.url = url

    async def request(self, method, url, **options):
        url = url.replace("https://api.twilio.com", self.url)
        response = await super().request(method, url, **options)
        check_response(method, url.partition("?")[0], response.status_code, response.text)
        return response


@pytest.fixture
async def url():
    async with emulated() as url:
        yield url


@pytest.fixture
async def client(url):
    async with CheckedAsyncClient(url) as http:
        yield Client(SID, TOKEN, http_client=http)


async def behave(url, **behaviour):
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{url}/_control/behaviour", json=behaviour) as response,
    ):
        assert response.status == 200, await response.text()


async def test_async_sdk_creates_and_fetches(url, client):
    await behave(url, delivery={"delay_ms": 60_000})
    before = datetime.now(UTC).replace(microsecond=0)
    created = await client.messages.create_async(to="+15551234567", from_=SENDER, body="Grüße, 12 €")
    assert created.sid.startswith("SM")
    assert (created.status, created.direction) == ("queued", "outbound-api")
    assert (created.to, created.from_, created.body) == ("+15551234567", SENDER, "Grüße, 12 €")
    assert (created.num_segments, created.num_media) == ("1", "0")
    assert (created.price, created.error_code, created.error_message) == (None, None, None)
    assert before <= created.date_created <= datetime.now(UTC)
    assert created.date_sent is None
    fetched = await client.messages(created.sid).fetch_async()
    assert (fetched.sid, fetched.status, fetched.uri) == (created.sid, "queued", created.uri)


async def test_sync_sdk_does_everything(url):
    await behave(url, delivery={"delay_ms": 0})

    def drive():
        client = Client(SID, TOKEN, http_client=CheckedClient(url))
        with client.http_client.session:
            sids = [
                client.messages.create(to="+15551234567", from_=SENDER, body=f"{n}").sid for n in range(7)
            ]
            assert client.messages(sids[0]).fetch().body == "0"
            assert [message.sid for message in client.messages.list(page_size=3)] == sids[::-1]
            assert [message.sid for message in client.messages.stream(limit=2)] == sids[:-3:-1]
            assert client.messages(sids[0]).update(body="").body == ""
            assert client.messages(sids[0]).delete()
            with pytest.raises(TwilioRestException) as refused:
                client.messages(sids[0]).fetch()
            assert (refused.value.status, refused.value.code) == (404, 20404)
            assert [message.sid for message in client.messages.list()] == sids[:0:-1]

    await asyncio.to_thread(drive)


async def test_async_sdk_streams_redacts_and_deletes(url, client):
    await behave(url, delivery={"delay_ms": 0})
    for number in range(5):
        await client.messages.create_async(to="+15551234567", from_=SENDER, body=f"{number}")
    stream = await client.messages.stream_async(page_size=2)
    streamed = [message async for message in stream]
    assert [message.body for message in streamed] == ["4", "3", "2", "1", "0"]
    assert (await streamed[0].update_async(body="")).body == ""
    assert (await streamed[0].fetch_async()).body == ""
    assert await streamed[0].delete_async()
    assert [message.body for message in await client.messages.list_async()] == ["3", "2", "1", "0"]


async def test_lifecycle_ends_delivered(url, client):
    await behave(url, delivery={"delay_ms": 0})
    created = await client.messages.create_async(to="+15551234567", from_=SENDER, body="hello")
    fetched = await client.messages(created.sid).fetch_async()
    assert fetched.status == "delivered"
    assert fetched.date_sent >= fetched.date_created


async def test_failed_delivery_shows_its_error(url, client):
    rule = {"on": "delivery", "action": "outcome", "to": "+15551234567", "error_code": 30003}
    await behave(url, delivery={"delay_ms": 0}, faults=[rule])
    bad = await client.messages.create_async(to="+15551234567", from_=SENDER, body="hello")
    good = await client.messages.create_async(to="+15551234568", from_=SENDER, body="hello")
    bad, good = await client.messages(bad.sid).fetch_async(), await client.messages(good.sid).fetch_async()
    assert (bad.status, bad.error_code) == ("undelivered", 30003)
    assert bad.error_message == "Unreachable destination handset"
    assert (good.status, good.error_code) == ("delivered", None)


async def test_messaging_service_accepts_then_picks_up(url, client):
    await behave(url, delivery={"delay_ms": 60_000})
    created = await client.messages.create_async(to="+15551234567", messaging_service_sid=SERVICE, body="x")
    assert (created.status, created.num_segments, created.from_) == ("accepted", "0", None)
    assert created.messaging_service_sid == SERVICE
    await behave(url, delivery={"delay_ms": 0})
    created = await client.messages.create_async(to="+15551234567", messaging_service_sid=SERVICE, body="x")
    fetched = await client.messages(created.sid).fetch_async()
    assert (fetched.status, fetched.num_segments) == ("delivered", "1")


async def test_scheduled_message_can_be_canceled_once(client):
    created = await client.messages.create_async(
        to="+15551234567",
        messaging_service_sid=SERVICE,
        body="later",
        schedule_type="fixed",
        send_at=datetime.now(UTC) + timedelta(hours=1),
    )
    assert created.status == "scheduled"
    assert (await client.messages(created.sid).update_async(status="canceled")).status == "canceled"
    with pytest.raises(TwilioRestException) as refused:
        await client.messages(created.sid).update_async(status="canceled")
    assert refused.value.code == 30409


async def test_schedule_without_service_is_ignored(url, client):
    await behave(url, delivery={"delay_ms": 60_000})
    created = await client.messages.create_async(
        to="+15551234567", from_=SENDER, body="now", schedule_type="fixed", send_at=datetime.now(UTC)
    )
    assert created.status == "queued"


async def test_media_makes_it_an_mms(client):
    created = await client.messages.create_async(
        to="+15551234567", from_=SENDER, media_url=["https://example.com/a.png", "https://example.com/b.png"]
    )
    assert created.sid.startswith("MM")
    assert created.num_media == "2"


async def test_unfinished_message_cannot_be_deleted(url, client):
    await behave(url, delivery={"delay_ms": 60_000})
    created = await client.messages.create_async(to="+15551234567", from_=SENDER, body="hello")
    with pytest.raises(TwilioRestException) as refused:
        await client.messages(created.sid).delete_async()
    assert (refused.value.status, refused.value.code) == (409, 20009)


async def test_list_filters_by_recipient_and_sender(client):
    for to, sender in (("+15551000001", SENDER), ("+15551000002", SENDER), ("+15551000001", "+15557770000")):
        await client.messages.create_async(to=to, from_=sender, body="hello")

    async def listed(**filters):
        return [(m.to, m.from_) for m in await client.messages.list_async(**filters)]

    assert await listed(to="+15551000001") == [("+15551000001", "+15557770000"), ("+15551000001", SENDER)]
    assert await listed(from_=SENDER) == [("+15551000002", SENDER), ("+15551000001", SENDER)]
    assert await listed(to="+15551000001", from_=SENDER) == [("+15551000001", SENDER)]
    assert await listed(to="+15550000000") == []


async def test_list_filters_by_date_sent(client):
    await client.messages.create_async(to="+15551234567", from_=SENDER, body="hello")
    now = datetime.now(UTC)
    hour, today = timedelta(hours=1), now.date()

    async def count(**filters):
        return len(await client.messages.list_async(**filters))

    assert await count(date_sent_after=now - hour) == 1
    assert await count(date_sent_after=now + hour) == 0
    assert await count(date_sent_before=now + hour) == 1
    assert await count(date_sent_before=now - hour) == 0
    assert await count(date_sent=now) == 1
    assert await count(date_sent=now - timedelta(days=1)) == 0
    assert await count(date_sent_after=today.isoformat()) == 1
    assert await count(date_sent_before=today.isoformat()) == 1
    assert await count(date_sent_after=now.strftime("%a, %d %b %Y 00:00:00 -0000")) == 1
    with pytest.raises(TwilioRestException, match="DateSent"):
        await count_page(client, date_sent_after="yesterday")


async def count_page(client, **filters):
    # The list call hides error replies of pages behind a plain TwilioException; ask for the page itself.
    response = await client.request_async(
        "GET", f"https://api.twilio.com{PATH}", params={"DateSent>": filters["date_sent_after"]}
    )
    raise client.api.v2010.exception("GET", PATH, response, "Unable to list")


PATH = f"/2010-04-01/Accounts/{SID}/Messages.json"


async def test_pages_follow_each_other_and_lead_back(client):
    bodies = [f"{n}" for n in range(5)]
    for number, body in enumerate(bodies):
        await client.messages.create_async(to=f"+1555123456{number % 2}", from_=SENDER, body=body)
    page = await client.messages.page_async(page_size=2)
    assert page.previous_page_url is None
    seen = [[message.body for message in page]]
    while page.next_page_url:
        page = await page.next_page_async()
        seen.append([message.body for message in page])
    assert seen == [["4", "3"], ["2", "1"], ["0"]]
    page = await page.previous_page_async()
    assert [message.body for message in page] == ["2", "1"]
    filtered = await client.messages.page_async(to="+15551234560", page_size=1)
    assert "To=%2B15551234560" in filtered.next_page_url
    assert [message.body for message in await filtered.next_page_async()] == ["2"]


async def test_page_numbers_work_without_a_token(url, client):
    for number in range(5):
        await client.messages.create_async(to="+15551234567", from_=SENDER, body=f"{number}")
    response = await client.request_async(
        "GET", f"https://api.twilio.com{PATH}", params={"PageSize": 2, "Page": 1}
    )
    page = json.loads(response.text)
    assert [message["body"] for message in page["messages"]] == ["2", "1"]
    assert (page["page"], page["page_size"], page["start"], page["end"]) == (1, 2, 2, 3)
    assert page["uri"] == f"{PATH}?PageSize=2&Page=1"
    assert page["first_page_uri"] == f"{PATH}?PageSize=2&Page=0"


@pytest.mark.parametrize(
    "query", [{"PageSize": "0"}, {"PageSize": "x"}, {"Page": "-1"}, {"PageToken": "PAx"}]
)
async def test_malformed_page_is_refused(client, query):
    response = await client.request_async("GET", f"https://api.twilio.com{PATH}", params=query)
    assert (response.status_code, json.loads(response.text)["code"]) == (400, 20001)


async def test_new_messages_can_lag_in_the_list(url, client):
    await behave(url, list_lag_ms=60_000)
    created = await client.messages.create_async(to="+15551234567", from_=SENDER, body="hello")
    assert await client.messages.list_async(to="+15551234567") == []
    assert (await client.messages(created.sid).fetch_async()).sid == created.sid
    await behave(url)
    assert len(await client.messages.list_async(to="+15551234567")) == 1
