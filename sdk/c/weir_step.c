/* The component's side of weir:step@1.0.0, by hand: the structs of weir_step.h lie in memory as the canonical ABI wants them. */
#include "weir_step.h"

#include <stdlib.h>
#include <string.h>

/* Calls that need no more than this never ask malloc. */
#ifndef WEIR_ARENA_BYTES
#define WEIR_ARENA_BYTES (128u << 10)
#endif

/* A call that needs more has pieces from malloc; they are freed when it ends. */
typedef struct piece { _Alignas(16) struct piece *next; } piece;

static _Alignas(16) uint8_t arena[WEIR_ARENA_BYTES];
static size_t arena_used;
static piece *pieces;

static struct {
    weir_output *list;
    size_t len, room;
} outputs;

static struct {
    weir_text reason;
    bool has_delay;
    uint64_t delay_ms;
} failure;

void *weir_alloc(size_t size) {
    if (size <= sizeof arena - arena_used) {
        void *room = arena + arena_used;
        arena_used += (size + 15) & ~(size_t)15;
        if (arena_used > sizeof arena) arena_used = sizeof arena;
        return room;
    }
    if (size > SIZE_MAX - sizeof(piece)) __builtin_trap();
    piece *more = malloc(sizeof(piece) + size);
    if (!more) __builtin_trap();
    more->next = pieces;
    pieces = more;
    return more + 1;
}

static void end_call(void) {
    arena_used = 0;
    while (pieces) {
        piece *next = pieces->next;
        free(pieces);
        pieces = next;
    }
    memset(&outputs, 0, sizeof outputs);
    memset(&failure, 0, sizeof failure);
}

weir_output *weir_emit(const char *port, weir_bytes data) {
    if (outputs.len == outputs.room) {
        size_t room = outputs.room ? 2 * outputs.room : 4;
        weir_output *list = weir_alloc(room * sizeof *list);
        if (outputs.len) memcpy(list, outputs.list, outputs.len * sizeof *list);
        outputs.list = list;
        outputs.room = room;
    }
    weir_output *output = &outputs.list[outputs.len++];
    *output = (weir_output){.port = weir_str(port), .data = data};
    return output;
}

static weir_status fail(weir_status status, weir_text reason) {
    failure.reason = reason;
    return status;
}

weir_status weir_retry(weir_text reason) { return fail(WEIR_RETRY, reason); }

weir_status weir_retry_after(uint64_t ms, weir_text reason) {
    failure.has_delay = true;
    failure.delay_ms = ms;
    return fail(WEIR_RETRY, reason);
}

weir_status weir_reject(weir_text reason) { return fail(WEIR_REJECT, reason); }

weir_status weir_fatal(weir_text reason) { return fail(WEIR_FATAL, reason); }

weir_text weir_str(const char *text) { return (weir_text){text, strlen(text)}; }

weir_bytes weir_bytes_of(weir_text text) { return (weir_bytes){(const uint8_t *)text.ptr, text.len}; }

static int lower(int c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

bool weir_header_of(const weir_event *event, const char *name, weir_bytes *value) {
    size_t len = strlen(name);
    for (size_t i = 0; i < event->headers_len; i++) {
        const weir_header *header = &event->headers[i];
        size_t same = 0;
        if (header->name.len != len) continue;
        while (same < len && lower(header->name.ptr[same]) == lower(name[same])) same++;
        if (same == len) {
            *value = header->value;
            return true;
        }
    }
    return false;
}

const weir_event *weir_edge(const weir_event *events, size_t count, const char *edge) {
    size_t len = strlen(edge);
    for (size_t i = 0; i < count; i++)
        if (events[i].edge.len == len && !memcmp(events[i].edge.ptr, edge, len)) return &events[i];
    return NULL;
}

#ifdef __wasm__

_Static_assert(sizeof(weir_event) == 44 && sizeof(weir_output) == 48, "as the canonical ABI lays them out");

#define IMPORT(interface, name) __attribute__((import_module("weir:step/" interface "@1.0.0"), import_name(name)))

IMPORT("log", "write") void import_log(uint32_t level, const char *text, size_t len);
IMPORT("settings", "get") void import_settings(weir_text *text);
IMPORT("secrets", "get") void import_secret(const char *name, size_t len, weir_text *text);

void weir_log(weir_level level, weir_text message) { import_log(level, message.ptr, message.len); }

weir_text weir_settings(void) {
    weir_text text;
    import_settings(&text);
    return text;
}

weir_text weir_secret(weir_text name) {
    weir_text text;
    import_secret(name.ptr, name.len, &text);
    return text;
}

/* result<list<output>, failure> */
static struct {
    uint8_t is_err;
    union {
        _Alignas(8) struct { weir_output *list; size_t len; } ok;
        struct {
            uint8_t kind; /* 0 retry, 1 reject, 2 fatal */
            union {
                _Alignas(8) weir_text reason;
                struct { uint8_t has_delay; _Alignas(8) uint64_t delay_ms; weir_text reason; } retry;
            };
        } err;
    };
} result;
_Static_assert(sizeof result == 40, "as the canonical ABI lays it out");

/* The linker's. Without a call of it, it would run constructors before each export, every time. */
void __wasm_call_ctors(void);
static bool constructed;

#define TEXT(name) const char *name, size_t name##_len

__attribute__((export_name("handle"))) void *weir_export_handle(
    TEXT(tenant), TEXT(graph), TEXT(version), TEXT(execution), TEXT(step),
    uint32_t attempt, uint64_t time_us, const weir_event *events, size_t count) {
    if (!constructed) {
        constructed = true;
        __wasm_call_ctors();
    }
    weir_context ctx = {
        {tenant, tenant_len}, {graph, graph_len}, {version, version_len}, {execution, execution_len}, {step, step_len},
        attempt, time_us,
    };
    weir_status status = weir_handle(&ctx, events, count);
    result.is_err = status != WEIR_OK;
    if (status == WEIR_OK) {
        result.ok.list = outputs.list;
        result.ok.len = outputs.len;
        return &result;
    }
    result.err.kind = (uint8_t)(status - WEIR_RETRY);
    if (status == WEIR_RETRY) {
        result.err.retry.has_delay = failure.has_delay;
        result.err.retry.delay_ms = failure.delay_ms;
        result.err.retry.reason = failure.reason;
    } else {
        result.err.reason = failure.reason;
    }
    return &result;
}

/* The host has read the result. */
__attribute__((export_name("cabi_post_handle"))) void weir_export_post_handle(void *read) {
    (void)read;
    end_call();
}

/* Room for what the host hands over; it goes with the call. */
__attribute__((export_name("cabi_realloc"))) void *
weir_export_realloc(void *old, size_t old_size, size_t align, size_t size) {
    (void)align;
    if (size <= old_size) return old;
    void *room = weir_alloc(size);
    if (old_size) memcpy(room, old, old_size);
    return room;
}

#else /* natively, for tests */

#include <stdio.h>

void weir_log(weir_level level, weir_text message) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    fprintf(stderr, "%s: %.*s\n", names[level], (int)message.len, message.ptr);
}

weir_text weir_settings(void) {
    const char *text = getenv("WEIR_STEP_SETTINGS");
    return weir_str(text ? text : "{}");
}

weir_text weir_secret(weir_text name) {
    char *key = weir_alloc(name.len + 1);
    memcpy(key, name.ptr, name.len);
    key[name.len] = 0;
    const char *value = getenv(key);
    if (!value) {
        fprintf(stderr, "set %s in the environment of the test\n", key);
        abort();
    }
    return weir_str(value);
}

const weir_output *weir_outputs(size_t *count) {
    *count = outputs.len;
    return outputs.list;
}

weir_text weir_reason(void) { return failure.reason; }

void weir_end(void) { end_call(); }

#endif
