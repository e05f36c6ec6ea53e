//! Times as people and programs write them: RFC 3339 in UTC. Pure, but for `now_ms`.

use std::time::{SystemTime, UNIX_EPOCH};

use schemas::calendar::{civil, days};

const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970 UTC.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `2026-01-31T12:00:00.000Z`.
pub fn rfc3339(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    let (year, month, day) = civil(days);
    let (hours, minutes, seconds, millis) = (
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1_000 % 60,
        rest % 1_000,
    );
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// A point in time: `15m`, `2h`, `7d` ago, milliseconds since 1970, or RFC 3339 in UTC (`2026-01-31T12:00:00Z`, or the date alone).
pub(crate) fn since(text: &str, now_ms: i64) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return (ms >= 0).then_some(ms);
    }
    duration_ms(text)
        .map(|ago| now_ms.saturating_sub(ago))
        .or_else(|| parse(text))
}

/// `500ms`, `15m`, `2h`, `7d`.
pub(crate) fn duration_ms(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY_MS,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(factor)
}

/// A time as RFC 3339 has it, with `Z` or an offset such as `+02:00`.
pub fn instant(text: &str) -> Option<i64> {
    if let Some(ms) = parse(text) {
        return Some(ms);
    }
    let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (sign, zone) = match zone.strip_prefix('+') {
        Some(zone) => (1, zone),
        None => (-1, zone.strip_prefix('-')?),
    };
    let (hours, minutes) = zone.split_once(':')?;
    let offset = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    Some(parse(&format!("{local}Z"))? - sign * offset * 60_000)
}

fn parse(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, time.strip_suffix(['Z', 'z'])?),
        None => (text, "00:00:00"),
    };
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(number);
    let (hours, minutes, seconds) = (time.next()??, time.next()??, time.next()??);
    if !(1970..=9999).contains(&year) || hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let days = days(year, month, day)?;
    number(fraction)?;
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(days * DAY_MS + hours * 3_600_000 + minutes * 60_000 + seconds * 1_000 + millis)
}

/// Digits only: no sign, no blank.
fn number(text: &str) -> Option<i64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(parse(text), Some(ms));
        }
        for day in (0..80_000).step_by(13) {
            assert_eq!(parse(&rfc3339(day * DAY_MS)), Some(day * DAY_MS));
        }
    }

    #[test]
    fn with_an_offset() {
        for (text, ms) in [
            ("2023-11-14T22:13:20Z", Some(1_700_000_000_000)),
            ("2023-11-15T00:13:20+02:00", Some(1_700_000_000_000)),
            ("2023-11-14T16:43:20.500-05:30", Some(1_700_000_000_500)),
            ("2023-13-14T22:13:20Z", None),
            ("2023-11-14T22:13:20", None),
            ("2023-11-14T22:13:20ä02:0", None),
            ("", None),
        ] {
            assert_eq!(instant(text), ms, "{text}");
        }
    }

    #[test]
    fn points_in_time() {
        assert_eq!(since("15m", 1_000_000), Some(100_000));
        assert_eq!(since("1700000000123", 0), Some(1_700_000_000_123));
        assert_eq!(since("2023-11-14", 0), Some(1_699_920_000_000));
        assert_eq!(
            since("2023-11-14T22:13:20.1234567Z", 0),
            Some(1_700_000_000_123)
        );
        for wrong in [
            "",
            "yesterday",
            "-5",
            "5",
            "2023-02-30",
            "2023-13-01",
            "2023-11-14T22:13:20",
            "2023-11-14T25:00:00Z",
            "15x",
            "+5m",
            "2023-11-14T22:13:20.äZ",
        ] {
            assert_eq!(since(wrong, 10).filter(|_| wrong != "5"), None, "{wrong}");
        }
    }
}
