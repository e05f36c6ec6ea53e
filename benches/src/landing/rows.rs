//! The rows of a user's own table: the n-th is always the same.

/// Rows of one partition of a table that has `bucket` in its key.
const BUCKET: i64 = 20;
const NOTE: &str = "Please ring twice and leave the parcel with the neighbours if nobody opens; the bell does not work since last spring, \
                    and the dog of the first floor is louder than it is dangerous. ";

pub(super) struct Order {
    pub(super) id: i64,
    pub(super) bucket: i64,
    pub(super) customer: String,
    pub(super) placed_at: String,
    pub(super) total_cents: i64,
    pub(super) note: String,
}

pub(super) fn order(n: u64) -> Order {
    let id = n as i64;
    Order {
        id,
        bucket: id / BUCKET,
        customer: format!("customer.{:05}@mail.example", n * 7_919 % 100_000),
        placed_at: format!("2026-11-21T09:{:02}:{:02}Z", n / 60 % 60, n % 60),
        total_cents: 199 + id * 31 % 20_000,
        note: NOTE.repeat(2) + &NOTE[..110],
    }
}

impl Order {
    /// About 600 bytes.
    pub(super) fn json(&self) -> String {
        let Self {
            id,
            bucket,
            customer,
            placed_at,
            total_cents,
            note,
        } = self;
        // nothing in it has to be escaped
        format!(
            r#"{{"id":{id},"bucket":{bucket},"customer":"{customer}","placed_at":"{placed_at}","total_cents":{total_cents},"note":"{note}"}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_json_of_the_size_that_is_said() {
        for n in [0, 99_999] {
            let text = order(n).json();
            assert!((560..640).contains(&text.len()), "{}", text.len());
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["id"], n);
        }
    }
}
