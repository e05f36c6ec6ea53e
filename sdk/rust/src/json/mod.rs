//! JSON as `serde_json` reads and writes it, but with text looked at eight bytes at a time: most of what a step reads and
//! writes is text without escapes, and `serde_json` looks at each byte of it.

mod read;
mod write;

pub(crate) use read::read;
pub(crate) use write::write;

/// Structs of this name stand for something that `serde_json` treats in its own way (`RawValue`, `Number`).
const PRIVATE: &str = "$serde_json::private::";

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Which of eight bytes cannot stand in a JSON string as they are: quote, backslash, control characters. The lowest bit that
/// is set belongs to the first of them; 0: none.
#[inline(always)]
fn dirty(word: u64) -> u64 {
    // A byte's high bit is set where a number larger than it was taken from it; bits above the first such byte may be wrong,
    // those below are not. See "Determine if a word has a zero byte", Bit Twiddling Hacks, S. E. Anderson. What is not
    // ASCII is passed over: its high bit is set before.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (control | quote | backslash) & !word & HIGH
}

fn is_dirty(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\')
}

/// The place of the first byte that `dirty` found.
#[inline(always)]
fn first(dirty: u64) -> usize {
    (dirty.trailing_zeros() / 8) as usize
}

/// How many bytes at the front may stand in a JSON string as they are.
#[inline(always)]
fn clean(bytes: &[u8]) -> usize {
    // Names and short texts end here. Each turn of a loop costs a look at the step's time, too.
    if let Some(word) = bytes.first_chunk() {
        let found = dirty(u64::from_le_bytes(*word));
        if found != 0 {
            return first(found);
        }
    }
    clean_long(bytes)
}

fn clean_long(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = dirty(u64::from_le_bytes(*word));
        if found != 0 {
            return at * 8 + first(found);
        }
    }
    let end = rest.iter().position(|byte| is_dirty(*byte));
    words.len() * 8 + end.unwrap_or(rest.len())
}

/// The bytes as text. Most of it is ASCII, which is seen faster than `str::from_utf8` sees it.
#[expect(
    unsafe_code,
    reason = "the second look at bytes that were just looked at"
)]
pub(crate) fn text(bytes: &[u8]) -> Result<&str, std::str::Utf8Error> {
    let (pieces, rest) = bytes.as_chunks::<32>();
    let all = |piece: &[u8; 32]| {
        let (words, _) = piece.as_chunks::<8>();
        words
            .iter()
            .fold(0, |all, word| all | u64::from_le_bytes(*word))
    };
    let ascii = pieces.iter().all(|piece| all(piece) & HIGH == 0) && rest.is_ascii();
    if ascii {
        // SAFETY: every byte is below 0x80, and such bytes are UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes)
}
