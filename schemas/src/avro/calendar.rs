//! Dates, times and timestamps ↔ text: ISO 8601 and RFC 3339 in the proleptic Gregorian calendar, years 0000 to 9999.
//!
//! What has no such text (another year, a time of day beyond 24 hours) has the raw number as its JSON form, so that
//! everything that Avro can hold is shown, and comes back.

use super::plan::Unit;
use crate::calendar::{civil, days};

const DAY_SECONDS: i64 = 86_400;
const NANOS: i64 = 1_000_000_000;
/// 0000-01-01 and 9999-12-31 in days since 1970.
const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;

/// Appends `2024-12-31`; `None`: it has no text, and nothing was appended.
pub(super) fn put_date(out: &mut Vec<u8>, days: i64) -> Option<()> {
    DAYS.contains(&days).then(|| {
        let (year, month, day) = civil(days);
        digits(out, year as u64, 4);
        out.push(b'-');
        digits(out, month as u64, 2);
        out.push(b'-');
        digits(out, day as u64, 2);
    })
}

/// Appends `23:59:59.123`, without a fraction where it is zero.
pub(super) fn put_time(out: &mut Vec<u8>, time: i64, unit: Unit) -> Option<()> {
    (0..DAY_SECONDS * unit.per_second())
        .contains(&time)
        .then(|| {
            let seconds = (time / unit.per_second()) as u64;
            digits(out, seconds / 3600, 2);
            out.push(b':');
            digits(out, seconds / 60 % 60, 2);
            out.push(b':');
            digits(out, seconds % 60, 2);
            let fraction = (time % unit.per_second()) as u64;
            if fraction != 0 {
                out.push(b'.');
                digits(out, fraction, unit.digits());
            }
        })
}

/// Appends `2024-12-31T23:59:59.123`; whose zone it is, the caller says.
pub(super) fn put_timestamp(out: &mut Vec<u8>, time: i64, unit: Unit) -> Option<()> {
    let day = DAY_SECONDS * unit.per_second();
    put_date(out, time.div_euclid(day))?;
    out.push(b'T');
    put_time(out, time.rem_euclid(day), unit)
}

fn digits(out: &mut Vec<u8>, value: u64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = value;
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Days since 1970.
pub(super) fn date(text: &str) -> Option<i64> {
    let mut text = Text(text.as_bytes());
    let days = text.date()?;
    text.ended().then_some(days)
}

/// Nanoseconds of the day.
pub(super) fn time(text: &str) -> Option<i64> {
    let mut text = Text(text.as_bytes());
    let nanos = text.time()?;
    text.ended().then_some(nanos)
}

/// Nanoseconds since 1970; `local`: without a zone, else it must have one.
pub(super) fn timestamp(text: &str, local: bool) -> Option<i128> {
    let mut text = Text(text.as_bytes());
    let days = text.date()?;
    text.one_of(b"Tt ")?;
    let time = text.time()?;
    let offset = if local { 0 } else { text.offset()? };
    let seconds = days * DAY_SECONDS - offset;
    text.ended()
        .then_some(i128::from(seconds) * i128::from(NANOS) + i128::from(time))
}

/// What of a text has not been read.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn ended(&self) -> bool {
        self.0.is_empty()
    }

    fn one_of(&mut self, any: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        any.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    /// Exactly so many digits.
    fn number(&mut self, width: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(width)?;
        let mut value = 0;
        for digit in digits {
            value = value * 10 + i64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        }
        self.0 = rest;
        Some(value)
    }

    fn below(&mut self, most: i64) -> Option<i64> {
        self.number(2).filter(|value| *value < most)
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.number(4)?;
        self.one_of(b"-")?;
        let month = self.number(2)?;
        self.one_of(b"-")?;
        days(year, month, self.number(2)?)
    }

    fn time(&mut self) -> Option<i64> {
        let hours = self.below(24)?;
        self.one_of(b":")?;
        let minutes = self.below(60)?;
        self.one_of(b":")?;
        // a leap second has no number in Avro
        let seconds = self.below(60)?;
        let mut nanos = 0;
        if self.one_of(b".").is_some() {
            let count = self.0.iter().take_while(|c| c.is_ascii_digit()).count();
            if !(1..=9).contains(&count) {
                return None;
            }
            nanos = self.number(count)? * 10_i64.pow(9 - count as u32);
        }
        Some((hours * 3600 + minutes * 60 + seconds) * NANOS + nanos)
    }

    /// In seconds.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.below(24)?;
        self.one_of(b":")?;
        Some(sign * (hours * 3600 + self.below(60)? * 60))
    }
}
