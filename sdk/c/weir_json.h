/* Just enough JSON for a step that looks at a few members and adds one: a checked walk over the text, no tree, no allocation. */
#ifndef WEIR_JSON_H
#define WEIR_JSON_H

#include "weir_step.h"

/* Whether the whole text is one JSON object (RFC 8259; at most 128 levels deep; UTF-8 is not checked). */
bool weir_json_is_object(weir_bytes text);

/* The first member of that name of an object that `weir_json_is_object` took: the text of its value, quotes included.
 * Names are compared as they are written, so one with escapes in it is not found. */
bool weir_json_get(weir_bytes object, const char *name, weir_text *value);

/* The value as a number without fraction or exponent, and without loss. */
bool weir_json_int(weir_text value, int64_t *number);

/* A number as JSON. */
weir_text weir_json_of_int(int64_t number);

/* The object with one more member at its end; `value` is JSON. Lives until the end of the call. A member of the same name stays
 * before it; most readers take the last. */
weir_bytes weir_json_with(weir_bytes object, const char *name, weir_text value);

#endif
