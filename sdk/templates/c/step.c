/* Adds the total, tax included, to an order. */
#include "weir_json.h"
#include "weir_step.h"

weir_status weir_handle(const weir_context *ctx, const weir_event *events, size_t count) {
    (void)ctx, (void)count;
    weir_text settings = weir_settings(), percent_text, cents_text;
    int64_t percent, cents;
    if (!weir_json_get(weir_bytes_of(settings), "percent", &percent_text) ||
        !weir_json_int(percent_text, &percent) || percent < 0 || percent > 1000)
        return weir_fatal(weir_str("the settings want a `percent`, 0 to 1000"));

    weir_bytes order = events[0].data;
    if (!weir_json_is_object(order)) return weir_reject(weir_str("the event is no JSON object"));
    if (!weir_json_get(order, "cents", &cents_text) || !weir_json_int(cents_text, &cents) || cents < 0 ||
        cents > INT64_MAX / 1100)
        return weir_reject(weir_str("the order has no `cents`"));

    weir_text total = weir_json_of_int(cents * (100 + percent) / 100);
    weir_emit("out", weir_json_with(order, "total", total));
    return WEIR_OK;
}
