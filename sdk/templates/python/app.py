"""An order comes in and goes out with its total."""

from weir_step import Context, Event, Output, Reject, log, settings, step


@step
def handle(ctx: Context, events: list[Event]) -> Output:
    order = events[0].json()
    if not isinstance(order.get("items"), list):
        raise Reject("an order needs `items`")

    net = sum(item["quantity"] * item["cents"] for item in order["items"])
    tax = round(net * settings.get()["tax"])
    log.info(f"{order['id']}: {len(order['items'])} items, {net} cents")

    return Output({**order, "net": net, "tax": tax, "total": net + tax, "priced": ctx.time.isoformat()})
