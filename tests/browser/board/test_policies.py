"""The page of policies: what is wrong stands at its field, an effect is seen before it is saved, nobody overwrites
another's change, and what was can be set again. By keyboard where a form is used."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Locator, expect

from tests.browser.board.board import NARROW, check_page, opened
from tests.browser.chromium import BrowserPage, Chromium
from tests.harness.api_client import unique_name
from tests.harness.system import RunningSystem


async def new_channel(running: RunningSystem) -> tuple[str, str]:
    """A channel with a policy, and a SKU of 10 units."""
    channel, sku = unique_name("shop"), unique_name("sku")
    async with running.client() as shop:
        assert (await shop.put(f"/v1/policies/{channel}", {"buffer": 1})).status == 200
        await shop.receive(sku, 10)
    return channel, sku


async def written(page: BrowserPage, label: str, value: str) -> None:
    """Type a value into a field."""
    await page.view.get_by_label(label, exact=True).focus()
    await page.view.keyboard.press("Control+A")
    await page.view.keyboard.type(value)


async def pressed(page: BrowserPage, name: str) -> None:
    """Press a button by keyboard."""
    button = page.view.get_by_role("button", name=name, exact=True)
    await expect(button).to_be_enabled()
    await button.focus()
    await page.view.keyboard.press("Enter")


async def ink(control: Locator) -> str:
    """The colour of its text."""
    return str(await control.evaluate("(each) => getComputedStyle(each).color"))


async def test_an_effect_is_previewed_then_saved_and_set_back(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    channel, sku = await new_channel(running)
    page = await opened(chromium, running, f"#/policies/{channel}/{sku}", role="operator")
    await expect(page.view.get_by_text("Nothing is set here")).to_be_visible()
    await expect(page.view.get_by_role("button", name="Preview")).to_be_disabled()
    await written(page, "Safety threshold", "12")
    await page.view.get_by_label("Below the threshold", exact=True).select_option("suspend")
    save = page.view.get_by_role("button", name="Save")
    await expect(save).to_be_disabled()
    blocked = await ink(save)
    await pressed(page, "Preview")
    await expect(page.view.get_by_text("Offers that would change: 1. SKUs examined: 1.")).to_be_visible()
    assert "suspended" in await page.view.get_by_role("region", name="Offers that would change").inner_text()
    await check_page(page, tmp_path / "preview.png")
    async with running.client() as shop:
        path = f"/v1/policies/{channel}/{sku}"
        assert (await shop.get(path)).body["own"] is None
        assert await ink(save) != blocked
        await pressed(page, "Save")
        await expect(page.view.get_by_text("Saved, and in force.").first).to_be_visible()
        assert (await shop.get(path)).body["own"] == {"safety_threshold": 12, "below_threshold": "suspend"}
        await page.view.get_by_text("by operator").first.wait_for()
        await written(page, "Safety threshold", "2")
        await pressed(page, "Preview")
        await pressed(page, "Save")
        again = page.view.get_by_role("button", name="Set again")
        await expect(again).to_have_count(2)
        await again.last.focus()
        await page.view.keyboard.press("Enter")
        await check_page(page, tmp_path / "rollback.png")
        await page.view.keyboard.press("Enter")
        await expect(page.view.get_by_label("Safety threshold", exact=True)).to_have_value("12")
        assert (await shop.get(path)).body["own"]["safety_threshold"] == 12


async def test_what_is_wrong_is_said_at_its_field(chromium: Chromium, running: RunningSystem, tmp_path: Path) -> None:
    channel, _ = await new_channel(running)
    page = await opened(chromium, running, f"#/policies/{channel}", role="operator", width=NARROW, dark=True)
    await written(page, "Safety threshold", "5")
    await written(page, "Resume threshold", "3")
    await pressed(page, "Preview")
    await page.until("document.activeElement.id === 'policy-resume_threshold'")
    assert "above safety_threshold" in await page.view.locator("#policy-resume_threshold-error").inner_text()
    # axe does not look at it: what an empty field says has the contrast of other asides.
    hint = "getComputedStyle(document.getElementById('policies-sku'), '::placeholder').color"
    assert await page.evaluate(hint) == await ink(page.view.locator(".field .aside").first)
    page.errors.clear()  # the browser logs what is refused
    await check_page(page, tmp_path / "wrong.png")
    await page.view.keyboard.type("0")
    await expect(page.view.locator("#policy-resume_threshold-error")).to_be_empty()


async def test_nobody_overwrites_the_change_of_another(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    channel, _ = await new_channel(running)
    page = await opened(chromium, running, f"#/policies/{channel}", role="operator", locale="zh-CN")
    await written(page, "最大展示量", "7")
    await pressed(page, "预览")
    async with running.client() as other:
        path = f"/v1/policies/{channel}"
        await other.put(path, {"buffer": 3})
        await pressed(page, "保存")
        await expect(page.view.get_by_text("此策略已被他人修改")).to_be_visible()
        assert (await other.get(path)).body["own"] == {"buffer": 3}
        page.errors.clear()  # the browser logs what is refused
        await check_page(page, tmp_path / "conflict.png")
        await pressed(page, "继续使用我的版本")
        await expect(page.view.get_by_label("最大展示量", exact=True)).to_have_value("7")
        await expect(page.view.get_by_label("缓冲", exact=True)).to_have_value("1")
        await pressed(page, "预览")
        await pressed(page, "保存")
        await expect(page.view.get_by_text("已保存并生效").first).to_be_visible()
        assert (await other.get(path)).body["own"] == {"buffer": 1, "max_listed": 7}


async def test_a_removal_is_previewed_too(chromium: Chromium, running: RunningSystem) -> None:
    channel, _ = await new_channel(running)
    page = await opened(chromium, running, f"#/policies/{channel}", role="operator")
    await pressed(page, "Remove this policy")
    await pressed(page, "Remove it now")
    await expect(page.view.get_by_text("Saved, and in force.").first).to_be_visible()
    async with running.client() as shop:
        assert (await shop.get(f"/v1/policies/{channel}")).body["own"] is None


async def test_a_second_person_is_asked_and_approves(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    channel, _ = await new_channel(running)
    page = await opened(chromium, running, f"#/policies/{channel}", role="operator")
    await written(page, "Buffer", "4")
    await pressed(page, "Ask a second person")
    await page.view.get_by_label("Why").fill("the sale begins")
    await check_page(page, tmp_path / "request.png")
    await pressed(page, "Ask")
    await expect(page.view.get_by_text("Another person was asked").first).to_be_visible()
    await page.evaluate("location.hash = '#/approvals'")
    mine = page.view.get_by_role("listitem").filter(has_text=channel)
    await expect(mine.get_by_text("Your own request")).to_be_visible()
    await expect(mine.get_by_role("button", name="Approve")).to_have_count(0)
    await check_page(page, tmp_path / "own.png")
    other = await opened(chromium, running, "#/approvals", role="approver")
    await other.view.get_by_role("button", name=f"Approve: {channel}").focus()
    await other.view.keyboard.press("Enter")
    await pressed(other, "Approve")
    await expect(other.view.get_by_text(channel)).to_have_count(0)
    async with running.client() as shop:
        assert (await shop.get(f"/v1/policies/{channel}")).body["own"] == {"buffer": 4}


@pytest.mark.parametrize("role", ["viewer", "approver"])
async def test_who_may_not_change_a_policy_reads_it(chromium: Chromium, running: RunningSystem, role: str) -> None:
    channel, _ = await new_channel(running)
    page = await opened(chromium, running, f"#/policies/{channel}", role=role)
    await expect(page.view.get_by_label("Buffer", exact=True)).to_be_disabled()
    await expect(page.view.get_by_label("Buffer", exact=True)).to_have_value("1")
    assert await ink(page.view.locator("#policy-buffer")) != await ink(page.view.locator("#policies-sku"))
    for name in ("Preview", "Save", "Remove this policy", "Set this again"):
        await expect(page.view.get_by_role("button", name=name)).to_have_count(0)
