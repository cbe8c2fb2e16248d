"""Changes of policies: decided by the ledger, and answered when they are in force and published.

In: a command of one level. Out: its result; the level as it is shown, with the tag of what is set there; what a policy
would do to the offers of SKUs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from aiohttp import web
from msgspec import Struct

from stocktide.api import problems
from stocktide.api.batching import BatchSubmitter
from stocktide.api.handlers.policy_body import Level, effective_view, own_view
from stocktide.api.known_channels import sweep
from stocktide.api.settled_reads import SettledReads
from stocktide.streams.contract.documents import PolicyAnswer
from stocktide.streams.contract.events import Malformed
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import DeletePolicy, SetPolicy
from stocktide.tables.ledger.outcomes import REFUSALS, Outcome
from stocktide.tables.ledger.policy_preview import PREVIEW_SKUS_MAX, PreviewPage

# After this a change is answered, although SKUs are still being re-evaluated: it is already in force.
PUBLISHED_SECONDS_MAX = 5.0
IF_MATCH, ETAG = "If-Match", "ETag"
POLICY_CHANGED = "policy_changed"
_TAG = re.compile(r'"([0-9a-f]{16})"')


class PolicyResult(Struct, frozen=True):
    """The outcome of a change, with what says more about it."""

    outcome: str
    detail: str | None = None

    @property
    def is_refused(self) -> bool:
        """Whether nothing was changed."""
        return self.outcome in REFUSALS


class PolicyChanges:
    """Decides, previews and shows levels. `publish_interval_ms` is the built-in default; a change that would move the
    modes of more than `approval_skus` SKUs needs a second person (0: none does)."""

    def __init__(
        self,
        submitter: BatchSubmitter,
        ledger: Ledger,
        reads: SettledReads,
        publish_interval_ms: int,
        approval_skus: int = 0,
    ) -> None:
        self._submitter = submitter
        self._ledger = ledger
        self._reads = reads
        self._publish_interval_ms = publish_interval_ms
        self._approval_skus = approval_skus

    async def decide(self, command: SetPolicy | DeletePolicy) -> PolicyResult:
        """Change a level and re-evaluate its SKUs; concurrent changes of one channel wait for each other."""
        deadline = self._reads.deadline()
        while True:
            decision = await self._submitter.decide([command], deadline)
            result = decision.results[0]
            if result.outcome != Outcome.SWEEP_PENDING:
                break
            if not await sweep(self._submitter, deadline):
                return PolicyResult(result.outcome)
        if result.outcome not in REFUSALS and command.sku is None:
            await sweep(self._submitter, asyncio.get_running_loop().time() + PUBLISHED_SECONDS_MAX)
        return PolicyResult(result.outcome, result.detail)

    async def read(self, level: Level) -> tuple[dict[str, Any] | None, dict[str, Any], str]:
        """What is set at a level, what is in force, and the digest of the first."""
        return await self._reads.settled(lambda: self._ledger.read_policy(level.channel, level.sku))

    async def show(self, level: Level) -> web.Response:
        """The answer that shows a level."""
        own, effective, digest = await self.read(level)
        shown = effective_view(effective, self._publish_interval_ms)
        answer = problems.json_response(PolicyAnswer(level.channel, level.sku, own_view(own), shown))
        answer.headers[ETAG] = f'"{digest}"'
        return answer

    def effective(self, effective: dict[str, Any]) -> dict[str, Any]:
        """The view of what is, or would be, in force."""
        return effective_view(effective, self._publish_interval_ms)

    async def preview(
        self, level: Level, policy: dict[str, Any] | None, cursor: str, limit: int, deadline: float
    ) -> PreviewPage:
        """Up to `limit` SKUs after `cursor`, in one call of the ledger. Raises TimeoutError at `deadline`."""
        while True:
            page = await self._reads.settled(
                lambda: self._ledger.preview_policy(level.channel, level.sku, policy, cursor, limit), deadline
            )
            # A change before it has to reach every SKU first, as before another change.
            if page.refusal != Outcome.SWEEP_PENDING or not await sweep(self._submitter, deadline):
                return page

    async def pages(self, level: Level, policy: dict[str, Any] | None, deadline: float) -> AsyncIterator[PreviewPage]:
        """All SKUs, or the refusal. Raises TimeoutError at `deadline`."""
        cursor = ""
        while True:
            page = await self.preview(level, policy, cursor, PREVIEW_SKUS_MAX, deadline)
            yield page
            if page.refusal or not page.last:
                return
            cursor = page.last

    async def needs_approval(self, level: Level, policy: dict[str, Any] | None) -> web.Response | None:
        """The refusal of a change for which a second person is needed. One whose effect cannot be told in time is."""
        if not self._approval_skus:
            return None
        moved: set[str] = set()
        try:
            async with aclosing(self.pages(level, policy, self._reads.deadline())) as pages:  # type: ignore[type-var]
                async for page in pages:
                    moved |= {row.sku for row in page.rows if row.before.mode != row.after.mode}
                    if len(moved) > self._approval_skus:
                        break
                else:
                    return None
        except TimeoutError:
            pass
        detail = f"It would change the mode of more than {self._approval_skus} SKUs, or of an unknown number."
        return problems.problem_response(403, "approval_required", detail)


def read_if_match(request: web.Request) -> str | web.Response | None:
    """The digest that the level must have; None: any."""
    given = request.headers.get(IF_MATCH)
    if given is None:
        return None
    if (found := _TAG.fullmatch(given.strip())) is None:
        return problems.from_malformed(Malformed("invalid_field", "one `ETag` of this policy", IF_MATCH))
    return found[1]


def refuse(result: PolicyResult) -> web.Response:
    """The problem of a refused change."""
    if result.detail == POLICY_CHANGED:
        return problems.problem_response(412, POLICY_CHANGED, "The policy is not the one that `If-Match` names.")
    return problems.from_outcome(result.outcome, result.detail)
