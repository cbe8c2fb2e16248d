"""Rule 49, units that are sold beyond the shelf come first: `short_not_told`.

In: orders, alerts, rows of `stock` and `channel-stock`; at rest, reads of stock. Out: short units without an alert, and
units that are offered or lie on the shelf while short units wait for them.
"""

from __future__ import annotations

from stocktide.loadtest.client.contract import ChannelUpdateView, StockView
from stocktide.loadtest.oracle.dispatcher import Handlers, time_ms
from stocktide.loadtest.oracle.history import AlertPublished, ChannelUpdatePublished
from stocktide.loadtest.oracle.orders import KnownOrder, OrderObservation, OrderTracker
from stocktide.loadtest.oracle.policies import PolicyTracker
from stocktide.loadtest.oracle.stocks import StockObservation, StockTracker
from stocktide.loadtest.oracle.verdict import Checker

SOLD_SHORT = "sold_short"


class ShortNotTold(Checker):
    """Rule 49: an order has short units, and no alert `sold_short` names it and the SKU; a channel is offered more than
    is free beside the short units; or, at rest, units are free that a short line could have.

    The offer is compared with the row of the same version. What short units cannot have, because their channel does not
    sell from there, is bounded by no more than their number.
    """

    name = "short_not_told"
    promise = 1

    def __init__(self, orders: OrderTracker, stocks: StockTracker, policies: PolicyTracker) -> None:
        super().__init__()
        self._orders = orders
        self._stocks = stocks
        self._policies = policies
        # By order and SKU: when units of it were first seen to be short.
        self._short: dict[tuple[str, str], int] = {}
        self._alerts: set[tuple[str, str]] = set()
        # By SKU: the newest row with short units; and by channel the newest update.
        self._rows: dict[str, StockView] = {}
        self._updates: dict[str, dict[str, ChannelUpdateView]] = {}
        orders.listeners.append(self._observe)
        stocks.listeners.append(self._on_stock_row)

    def handlers(self) -> Handlers:
        return {AlertPublished: self._on_alert, ChannelUpdatePublished: self._on_update}

    def _on_alert(self, row: AlertPublished) -> None:
        if row.alert.type == SOLD_SHORT and row.alert.order_id is not None:
            self._alerts.add((row.alert.order_id, row.alert.sku))

    def _observe(self, observation: OrderObservation) -> None:
        if observation.is_new:
            for line in observation.order.lines:
                if line.short:
                    self._short.setdefault((observation.order.order_id, line.sku), observation.record.at)

    def _on_stock_row(self, observation: StockObservation) -> None:
        stock = observation.stock
        self.looked["rows of stock"] += 1
        if observation.before is not None and stock.version <= observation.before.version:
            return
        if stock.short:
            self._rows[stock.sku] = stock
            for update in self._updates.get(stock.sku, {}).values():
                self._compare(update, stock, observation.row.at)
        else:
            self._rows.pop(stock.sku, None)

    def _on_update(self, row: ChannelUpdatePublished) -> None:
        update = row.update
        self._updates.setdefault(update.sku, {})[update.channel] = update
        if (stock := self._rows.get(update.sku)) is not None:
            self._compare(update, stock, row.at)

    def _compare(self, update: ChannelUpdateView, stock: StockView, at: int) -> None:
        if update.version != stock.version:
            return
        self.looked["offers beside short units"] += 1
        free = max(0, _free_units(stock) - stock.short)
        pooled = sum(shelf.reserved for shelf in stock.warehouses.values())
        if update.quantity > free + pooled:
            what = (
                f"{update.channel} was offered {update.quantity} {stock.sku} at version {stock.version}, where"
                f" {_free_units(stock)} were free, {pooled} in pools, and {stock.short} short"
            )
            self.found(what, at, sku=stock.sku, channel=update.channel)

    def end(self) -> None:
        """At rest every alert is there, and every line has what it could have."""
        if self.quiesced_at is None:
            return
        for (order_id, sku), at in self._short.items():
            self.looked["lines sold short"] += 1
            if (order_id, sku) not in self._alerts:
                self.found(f"order {order_id} was short of {sku}, and no alert says so", at, order_id=order_id, sku=sku)
        for order_id in dict.fromkeys(order_id for order_id, _ in self._short):
            self._check_rest(self._orders.order(order_id))

    def _check_rest(self, known: KnownOrder) -> None:
        content = known.content()
        if content is None or content.state not in ("reserved", "paid"):
            return
        due = time_ms(content.expires_at)
        assert self.quiesced_at is not None
        if due is not None and due <= self.quiesced_at:
            return  # it waits for its end alone
        for line in content.lines:
            read = self._stocks.final.get(line.sku) if line.short and not line.held_back else None
            if read is None or read.stock is None or not self._may_have_any(content.channel, read.stock):
                continue
            what = (
                f"order {known.order_id} of {content.channel} is still short of {line.short} {line.sku}, and"
                f" {_free_units(read.stock)} are free"
            )
            self.found(what, read.at, order_id=known.order_id, sku=line.sku, channel=content.channel)

    def _may_have_any(self, channel: str, stock: StockView) -> bool:
        """Whether a short line of a channel could have a unit: its warehouses have some, taken together and one of
        them. Without `split` a sold order takes from one warehouse, and the next rise fills it."""
        policy = self._policies.in_force(channel, stock.sku)
        if policy.get("pool_only") or policy.get("split") is False:
            return False
        names = policy.get("warehouses")
        free = [shelf.available for name, shelf in stock.warehouses.items() if names is None or name in names]
        return sum(free) > 0


def _free_units(stock: StockView) -> int:
    """Units that are free at the warehouses that have any."""
    return sum(max(0, shelf.available) for shelf in stock.warehouses.values())
