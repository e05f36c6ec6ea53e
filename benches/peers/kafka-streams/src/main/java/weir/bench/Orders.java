package weir.bench;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;

/** The three steps of examples/orders, on Jackson's tree. */
final class Orders {
    private static final long DISCOUNT_PERCENT = 10;
    private static final long TAX_PERCENT = 19;
    private static final long SHIPPING_CENTS = 499;
    private static final long SHIPPING_FREE_FROM_CENTS = 10_000;

    private Orders() {}

    static ObjectNode check(ObjectNode order) {
        ArrayNode lines = (ArrayNode) order.get("lines");
        if (lines.isEmpty()) {
            throw new IllegalArgumentException("the order has no lines");
        }
        int items = 0;
        for (JsonNode line : lines) {
            String sku = line.get("sku").textValue();
            int quantity = line.get("quantity").intValue();
            if (sku.isEmpty()) {
                throw new IllegalArgumentException("a line has no sku");
            }
            if (quantity < 1 || quantity > 1_000) {
                throw new IllegalArgumentException(quantity + " times \"" + sku + "\" cannot be ordered");
            }
            if (line.get("unit_cents").longValue() > 10_000_000) {
                throw new IllegalArgumentException("\"" + sku + "\" cannot cost so much");
            }
            items += quantity;
        }
        return order.put("items", items);
    }

    static ObjectNode price(ObjectNode order) {
        long linesCents = 0;
        for (JsonNode line : order.get("lines")) {
            long total = line.get("quantity").longValue() * line.get("unit_cents").longValue();
            ((ObjectNode) line).put("total_cents", total);
            linesCents += total;
        }
        boolean discounted = order.get("customer").get("vip").booleanValue() || !order.get("coupon").isNull();
        long discount = discounted ? percent(linesCents, DISCOUNT_PERCENT) : 0;
        long goods = linesCents - discount;
        long shipping = goods >= SHIPPING_FREE_FROM_CENTS ? 0 : SHIPPING_CENTS;
        long tax = percent(goods + shipping, TAX_PERCENT);
        order.putObject("price")
                .put("lines_cents", linesCents)
                .put("discount_cents", discount)
                .put("shipping_cents", shipping)
                .put("tax_cents", tax)
                .put("total_cents", goods + shipping + tax);
        return order;
    }

    static ObjectNode tier(ObjectNode order) {
        long total = order.get("price").get("total_cents").longValue();
        return order.put("tier", total >= 50_000 ? "gold" : total >= 10_000 ? "silver" : "bronze");
    }

    private static long percent(long cents, long percent) {
        return (cents * percent + 50) / 100;
    }
}
