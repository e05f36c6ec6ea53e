//! Emits each event as it came: data, key, content type and headers.

use weir_step::{Context, Event, Failure, Output, Step};

struct Copy;
weir_step::export!(Copy);

impl Step for Copy {
    fn handle(_: &Context, input: Vec<Event>) -> Result<Vec<Output>, Failure> {
        let copied = |event: Event| Output {
            port: Output::OUT.into(),
            key: event.key,
            content_type: Some(event.content_type),
            headers: event.headers,
            data: event.data,
        };
        Ok(input.into_iter().map(copied).collect())
    }
}
