/* `make test`: the step as a plain function. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir_step.h"

static weir_status run(const char *data, const char *want) {
    weir_context ctx = {.attempt = 1};
    weir_event event = {.edge = weir_str("trigger"), .data = weir_bytes_of(weir_str(data))};
    weir_status status = weir_handle(&ctx, &event, 1);
    size_t count;
    const weir_output *outputs = weir_outputs(&count);
    if (want) {
        assert(count == 1 && outputs->data.len == strlen(want));
        assert(!memcmp(outputs->data.ptr, want, strlen(want)));
    }
    weir_end();
    return status;
}

int main(void) {
    setenv("WEIR_STEP_SETTINGS", "{\"percent\":19}", 1);
    assert(run("{\"id\":\"a-1\",\"cents\":1000}", "{\"id\":\"a-1\",\"cents\":1000,\"total\":1190}") == WEIR_OK);
    assert(run("{\"id\":\"a-2\"}", NULL) == WEIR_REJECT);
    assert(run("no JSON", NULL) == WEIR_REJECT);
    puts("ok");
}
