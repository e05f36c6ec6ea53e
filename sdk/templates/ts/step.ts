import { log, output, reject, settings, step } from "weir-step";

interface Order {
  id: string;
  items: { quantity: number; cents: number }[];
}

interface Settings {
  tax: number;
}

/** An order comes in and goes out with its total. */
export const handle = step((ctx, events) => {
  const order = events[0]!.json<Order>();
  if (!Array.isArray(order.items)) reject("an order needs `items`");

  const net = order.items.reduce((sum, item) => sum + item.quantity * item.cents, 0);
  const tax = Math.round(net * settings<Settings>().tax);
  log.info(`${order.id}: ${order.items.length} items, ${net} cents`);

  return output("out", { ...order, net, tax, total: net + tax, priced: ctx.time });
});
