//! Decimals: a number in two's complement, most significant byte first, ↔ digits with a point. Of any length up to a bound.

use super::bounds::DECIMAL_BYTES_MAX;

/// The digits of the text of such a number, without a sign, and whether it is negative; `None`: longer than the bound.
fn digits(bytes: &[u8]) -> Option<(bool, String)> {
    if bytes.len() <= 16 {
        let sign = if bytes.first().is_some_and(|byte| *byte >= 0x80) {
            0xff
        } else {
            0
        };
        let mut wide = [sign; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        let value = i128::from_be_bytes(wide);
        return Some((value < 0, value.unsigned_abs().to_string()));
    }
    if bytes.len() > DECIMAL_BYTES_MAX {
        return None;
    }
    let negative = bytes[0] >= 0x80;
    let mut rest = bytes.to_vec();
    if negative {
        negate(&mut rest);
    }
    // nine digits at a time, the last ones first
    let mut groups = Vec::new();
    let mut start = 0;
    while start < rest.len() {
        let mut remainder = 0u64;
        for byte in &mut rest[start..] {
            let value = remainder << 8 | u64::from(*byte);
            *byte = (value / 1_000_000_000) as u8;
            remainder = value % 1_000_000_000;
        }
        groups.push(remainder);
        while rest.get(start) == Some(&0) {
            start += 1;
        }
    }
    let mut text = String::new();
    for group in groups.iter().rev() {
        text.push_str(&format!("{group:09}"));
    }
    let first = text.find(|c| c != '0').unwrap_or(text.len() - 1);
    Some((negative, text.split_off(first)))
}

/// Appends the text of an unscaled number with `scale` digits after the point (below zero: as many zeros before it).
/// `None`: longer than the bound, and nothing was appended.
pub(super) fn put(out: &mut Vec<u8>, unscaled: &[u8], scale: i64) -> Option<()> {
    if scale.unsigned_abs() > SCALE_MAX {
        return None;
    }
    let (negative, digits) = digits(unscaled)?;
    if negative {
        out.push(b'-');
    }
    let Ok(after) = usize::try_from(scale) else {
        out.extend_from_slice(digits.as_bytes());
        if digits != "0" {
            out.resize(out.len() + scale.unsigned_abs() as usize, b'0');
        }
        return Some(());
    };
    let before = digits.len().saturating_sub(after);
    if before == 0 {
        out.push(b'0');
    }
    out.extend_from_slice(&digits.as_bytes()[..before]);
    if after > 0 {
        out.push(b'.');
        out.resize(out.len() + after.saturating_sub(digits.len()), b'0');
        out.extend_from_slice(&digits.as_bytes()[before..]);
    }
    Some(())
}

/// More zeros than this are a mistake, or malice.
const SCALE_MAX: u64 = 4 * DECIMAL_BYTES_MAX as u64;

/// A decimal that was read from text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    /// Without leading zeros; empty: zero.
    digits: String,
    /// How many of the digits stand after the point.
    pub(super) scale: usize,
}

impl Decimal {
    /// `-12.34`; no exponent. `None`: this is none, or longer than the bound.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (before, after) = text.split_once('.').unwrap_or((text, ""));
        let all_digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
        if before.is_empty()
            || !all_digits(before)
            || !all_digits(after)
            || text.ends_with('.')
            || text.len() > 2 * DECIMAL_BYTES_MAX
        {
            return None;
        }
        let mut digits = before.trim_start_matches('0').to_owned();
        digits.push_str(after);
        if before.bytes().all(|c| c == b'0') {
            digits = digits.trim_start_matches('0').to_owned();
        }
        Some(Self {
            negative,
            digits,
            scale: after.len(),
        })
    }

    /// With so many digits after the point; `None`: it has more than that, and they are not zeros.
    pub(super) fn with_scale(mut self, scale: usize) -> Option<Self> {
        while self.scale > scale {
            // an empty text is a zero, whatever its scale
            if !self.digits.is_empty() && self.digits.pop() != Some('0') {
                return None;
            }
            self.scale -= 1;
        }
        if !self.digits.is_empty() {
            let more = scale - self.scale;
            self.digits.extend(std::iter::repeat_n('0', more));
        }
        self.scale = scale;
        Some(self)
    }

    pub(super) fn precision(&self) -> usize {
        self.digits.len()
    }

    /// The unscaled number in as few bytes as hold it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = match self.digits.parse::<i128>() {
            Ok(value) => value.to_be_bytes().to_vec(),
            Err(_) => unsigned(&self.digits),
        };
        if self.negative {
            negate(&mut bytes);
        }
        let sign = if bytes[0] >= 0x80 { 0xff } else { 0 };
        let spare = bytes
            .windows(2)
            .take_while(|two| two[0] == sign && (two[1] >= 0x80) == (sign == 0xff))
            .count();
        bytes.split_off(spare)
    }
}

/// Digits → bytes, the first of which is zero (empty digits: one zero byte).
fn unsigned(digits: &str) -> Vec<u8> {
    // log2(10) / 8 is below 0.416
    let mut bytes = vec![0u8; digits.len() * 416 / 1000 + 2];
    for digit in digits.bytes() {
        let mut carry = u16::from(digit - b'0');
        for byte in bytes.iter_mut().rev() {
            let value = u16::from(*byte) * 10 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
    }
    bytes
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        let (value, over) = (!*byte).overflowing_add(u8::from(carry));
        *byte = value;
        carry = over;
    }
}
