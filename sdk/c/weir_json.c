/* A recursive descent over the text that moves a pointer and builds nothing. */
#include "weir_json.h"

#include <string.h>

#define DEPTH_MAX 128

typedef struct { const uint8_t *at, *end; } cursor;

static void blank(cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r')) c->at++;
}

static bool take(cursor *c, uint8_t byte) {
    if (c->at == c->end || *c->at != byte) return false;
    c->at++;
    return true;
}

static bool word(cursor *c, const char *text, size_t len) {
    if ((size_t)(c->end - c->at) < len || memcmp(c->at, text, len)) return false;
    c->at += len;
    return true;
}

static bool is_hex(uint8_t b) { return (b >= '0' && b <= '9') || ((b | 32) >= 'a' && (b | 32) <= 'f'); }

static bool string(cursor *c) {
    if (!take(c, '"')) return false;
    while (c->at < c->end) {
        uint8_t b = *c->at++;
        if (b == '"') return true;
        if (b < 0x20) return false;
        if (b != '\\') continue;
        if (c->at == c->end) return false;
        b = *c->at++;
        if (b == 'u') {
            for (int i = 0; i < 4; i++)
                if (c->at == c->end || !is_hex(*c->at++)) return false;
        } else if (b == 0 || !strchr("\"\\/bfnrt", b)) {
            return false;
        }
    }
    return false;
}

static bool digits(cursor *c) {
    const uint8_t *start = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') c->at++;
    return c->at > start;
}

static bool number(cursor *c) {
    take(c, '-');
    if (!take(c, '0') && !digits(c)) return false;
    if (take(c, '.') && !digits(c)) return false;
    if (take(c, 'e') || take(c, 'E')) {
        if (!take(c, '+')) take(c, '-');
        if (!digits(c)) return false;
    }
    return true;
}

static bool value(cursor *c, int depth);

static bool member(cursor *c, int depth, weir_text *name, weir_text *of) {
    blank(c);
    const uint8_t *start = c->at;
    if (!string(c)) return false;
    *name = (weir_text){(const char *)start + 1, (size_t)(c->at - start) - 2};
    blank(c);
    if (!take(c, ':')) return false;
    blank(c);
    start = c->at;
    if (!value(c, depth)) return false;
    *of = (weir_text){(const char *)start, (size_t)(c->at - start)};
    blank(c);
    return true;
}

static bool object(cursor *c, int depth) {
    weir_text name, of;
    if (!take(c, '{')) return false;
    blank(c);
    if (take(c, '}')) return true;
    do
        if (!member(c, depth, &name, &of)) return false;
    while (take(c, ','));
    return take(c, '}');
}

static bool array(cursor *c, int depth) {
    if (!take(c, '[')) return false;
    blank(c);
    if (take(c, ']')) return true;
    do {
        blank(c);
        if (!value(c, depth)) return false;
        blank(c);
    } while (take(c, ','));
    return take(c, ']');
}

static bool value(cursor *c, int depth) {
    if (c->at == c->end || depth == DEPTH_MAX) return false;
    switch (*c->at) {
    case '{': return object(c, depth + 1);
    case '[': return array(c, depth + 1);
    case '"': return string(c);
    case 't': return word(c, "true", 4);
    case 'f': return word(c, "false", 5);
    case 'n': return word(c, "null", 4);
    default: return number(c);
    }
}

static cursor over(weir_bytes text) { return (cursor){text.ptr, text.ptr + text.len}; }

bool weir_json_is_object(weir_bytes text) {
    cursor c = over(text);
    blank(&c);
    if (!object(&c, 1)) return false;
    blank(&c);
    return c.at == c.end;
}

bool weir_json_get(weir_bytes text, const char *wanted, weir_text *found) {
    size_t len = strlen(wanted);
    weir_text name, of;
    cursor c = over(text);
    blank(&c);
    if (!take(&c, '{')) return false;
    do {
        if (!member(&c, 1, &name, &of)) return false;
        if (name.len == len && !memcmp(name.ptr, wanted, len)) {
            *found = of;
            return true;
        }
    } while (take(&c, ','));
    return false;
}

bool weir_json_int(weir_text text, int64_t *number_to) {
    bool negative = text.len && *text.ptr == '-';
    size_t at = negative;
    uint64_t sum = 0, max = (uint64_t)INT64_MAX + negative;
    if (at == text.len) return false;
    for (; at < text.len; at++) {
        unsigned digit = (unsigned)(text.ptr[at] - '0');
        if (digit > 9 || sum > (max - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *number_to = negative ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

weir_text weir_json_of_int(int64_t number) {
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    char *text = weir_alloc(20);
    size_t at = 20;
    do text[--at] = (char)('0' + left % 10);
    while (left /= 10);
    if (number < 0) text[--at] = '-';
    return (weir_text){text + at, 20 - at};
}

weir_bytes weir_json_with(weir_bytes text, const char *name, weir_text of) {
    size_t name_len = strlen(name), end = text.len, at;
    while (text.ptr[end - 1] != '}') end--;
    cursor inside = over(text);
    blank(&inside);
    inside.at++;
    blank(&inside);
    bool empty = *inside.at == '}';
    uint8_t *out = weir_alloc(end + name_len + of.len + 4);
    at = end - 1;
    memcpy(out, text.ptr, at);
    if (!empty) out[at++] = ',';
    out[at++] = '"';
    memcpy(out + at, name, name_len);
    at += name_len;
    out[at++] = '"';
    out[at++] = ':';
    memcpy(out + at, of.ptr, of.len);
    at += of.len;
    out[at++] = '}';
    return (weir_bytes){out, at};
}
