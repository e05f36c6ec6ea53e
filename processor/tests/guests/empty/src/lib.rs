//! Takes anything and emits nothing.

use weir_step::{Context, Event, Failure, Output, Step};

struct Empty;
weir_step::export!(Empty);

impl Step for Empty {
    fn handle(_: &Context, _: Vec<Event>) -> Result<Vec<Output>, Failure> {
        Ok(Vec::new())
    }
}
