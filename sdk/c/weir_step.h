/* Write a Weir step in C: define `weir_handle`.
 *
 * A step is a pure function of its input. One call is one run of `weir_handle`.
 *
 * Who owns what: everything that Weir hands over (context, events, settings, secrets) and everything from `weir_alloc` lives until the
 * call ends, and is then gone at once. Nothing of it is freed by hand, nothing of it may be kept in a static. What goes out
 * (`weir_emit`, the reason of a failure) must be such memory too, or a static.
 *
 * Texts are UTF-8 with a length; they end with no NUL.
 */
#ifndef WEIR_STEP_H
#define WEIR_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct { const char *ptr; size_t len; } weir_text;
typedef struct { const uint8_t *ptr; size_t len; } weir_bytes;
typedef struct { weir_text name; weir_bytes value; } weir_header;

/* Where this call stands. Never changes between two runs of the same execution, but for `attempt`. */
typedef struct {
    weir_text tenant, graph, version, execution, step;
    uint32_t attempt;  /* 1 for the first try */
    uint64_t time_us;  /* the trigger's time, microseconds since 1970-01-01 UTC */
} weir_context;

/* One event that came in. */
typedef struct {
    weir_text edge;    /* `trigger` or `step.port` */
    bool has_key;
    weir_bytes key;
    weir_text content_type;
    const weir_header *headers;
    size_t headers_len;
    weir_bytes data;
} weir_event;

/* One event that goes out. Without a key or a content type of its own it has the input's. */
typedef struct {
    weir_text port;
    bool has_key;
    weir_bytes key;
    bool has_content_type;
    weir_text content_type;
    const weir_header *headers;
    size_t headers_len;
    weir_bytes data;
} weir_output;

/* How a call ended; made by the functions below. */
typedef enum { WEIR_OK, WEIR_RETRY, WEIR_REJECT, WEIR_FATAL } weir_status;

/* The step. You write it. `count` is 1, but for a step with `join`: then one for each event of its edges. */
weir_status weir_handle(const weir_context *ctx, const weir_event *events, size_t count);

/* One more event that goes out. It is valid until the next `weir_emit`; what is emitted by a call that then fails is dropped. */
weir_output *weir_emit(const char *port, weir_bytes data);

/* Try again, as `retry:` in the graph allows; `_after` so many milliseconds. */
weir_status weir_retry(weir_text reason);
weir_status weir_retry_after(uint64_t ms, weir_text reason);
/* This input can never work: it becomes a dead letter. */
weir_status weir_reject(weir_text reason);
/* Nothing of this graph can work any more. */
weir_status weir_fatal(weir_text reason);

/* Memory until the end of the call, aligned for everything; traps where there is none. */
void *weir_alloc(size_t size);
/* A C string as a text: a literal, or memory that lives until the end of the call. */
weir_text weir_str(const char *text);
/* The bytes of a text. */
weir_bytes weir_bytes_of(weir_text text);
/* The first header of that name, whatever its case. */
bool weir_header_of(const weir_event *event, const char *name, weir_bytes *value);
/* The first event that came over that edge; NULL where that branch of a `join` was silent. */
const weir_event *weir_edge(const weir_event *events, size_t count, const char *edge);

/* A line for the execution's log. A step that calls it imports weir:step/log, so its graph must say `log: true`. */
typedef enum { WEIR_DEBUG, WEIR_INFO, WEIR_WARN, WEIR_ERROR } weir_level;
void weir_log(weir_level level, weir_text message);
/* What the graph says under the step's `settings`: a JSON object's text. */
weir_text weir_settings(void);
/* A secret of the tenant. A step that calls it needs `secrets: [NAME]`; another name ends the call. */
weir_text weir_secret(weir_text name);

#ifndef __wasm__
/* For tests of `weir_handle`, compiled natively: what the last call emitted, why it failed, and an end to the call. */
const weir_output *weir_outputs(size_t *count);
weir_text weir_reason(void);
void weir_end(void);
#endif

#endif
