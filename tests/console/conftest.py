"""Chromium, for each test anew."""

from collections.abc import AsyncIterator

import pytest
from console_double import ScriptedApi, scripted_api
from console_page import Console, opened_browser, opened_console
from playwright.async_api import Browser


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with opened_browser() as running:
        yield running


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    async with scripted_api() as running:
        yield running


@pytest.fixture
async def console(browser: Browser, api: ScriptedApi) -> AsyncIterator[Console]:
    async with opened_console(browser, api.url) as page:
        yield page
