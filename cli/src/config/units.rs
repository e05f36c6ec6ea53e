//! Units of settings: `500ms`, `2s`, `5m`, `1h`; `64KiB`, `8MiB`, `1GiB`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

const TIMES: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZES: [(&str, u64); 4] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// `500ms`, `30s`, `5m`, `1h`, `7d`; the error says so.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, &TIMES)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("\"{text}\" is no time; write it as 500ms, 30s, 5m or 1h"))
}

fn size(text: &str) -> Result<usize, String> {
    scaled(text, &SIZES)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| format!("\"{text}\" is no size; write it as 512KiB, 8MiB or 1GiB"))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A duration as it is written: `15s`.
pub(crate) struct Flat(pub(crate) Duration);

impl fmt::Display for Flat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis() as u64;
        let (unit, factor) = TIMES
            .iter()
            .rev()
            .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor))
            .unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", ms / factor)
    }
}

/// `["a", "b"]`; from the environment `a,b`.
pub(super) mod list {
    use super::*;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        List(Vec<String>),
        Text(String),
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        let names = match Written::deserialize(from) {
            Ok(Written::List(names)) => return Ok(names),
            Ok(Written::Text(names)) => names,
            Err(_) => return Err(D::Error::custom("write a list, such as [\"a\", \"b\"]")),
        };
        let name = |name: &str| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        Ok(names.split(',').filter_map(name).collect())
    }
}

pub(super) mod duration {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    /// Of a setting that may be left out.
    pub(crate) fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        deserialize(from).map(Some)
    }
}

pub(super) mod bytes {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        size(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for text in ["0ms", "500ms", "30s", "5m", "1h", "7d", "90s"] {
            assert_eq!(Flat(duration(text).expect("a time")).to_string(), text);
        }
        assert_eq!(size("8MiB"), Ok(8 << 20));
        for wrong in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(size("8MB").is_err());
    }
}
