//! Times as people write them.

/// Microseconds since 1970 of an RFC 3339 time.
pub(super) fn micros(text: &str) -> Option<u64> {
    let ms = control::instant(text)?;
    u64::try_from(ms).ok()?.checked_mul(1_000)
}
