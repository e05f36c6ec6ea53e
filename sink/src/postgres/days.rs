//! The history's tables are cut by days (UTC), so that a day is dropped at once when it is old. Pure.

use schemas::{ExecutionId, calendar};

const DAY_MS: i64 = 86_400_000;
/// Days ahead that always have their part.
const AHEAD: i64 = 2;

/// Days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Day(pub(super) i64);

impl Day {
    pub(super) fn of_ms(ms: i64) -> Self {
        Self(ms.div_euclid(DAY_MS))
    }

    /// The day of the time that an execution's id begins with.
    pub(super) fn of(execution: &ExecutionId) -> Self {
        Self::of_ms(execution.time_ms() as i64)
    }

    /// The least id of it, as a uuid.
    pub(super) fn first_id(self) -> String {
        let ms = (self.0 * DAY_MS).clamp(0, 0xffff_ffff_ffff);
        format!(
            "{:08x}-{:04x}-0000-0000-000000000000",
            ms >> 16,
            ms & 0xffff
        )
    }

    /// Its first moment, for `timestamptz`.
    pub(super) fn first_moment(self) -> String {
        let (year, month, day) = calendar::civil(self.0);
        format!("{year:04}-{month:02}-{day:02} 00:00:00+00")
    }

    /// What a part of a table is called after it: `20260131`.
    pub(super) fn suffix(self) -> String {
        let (year, month, day) = calendar::civil(self.0);
        format!("{year:04}{month:02}{day:02}")
    }

    /// The day of a part's name.
    pub(super) fn of_suffix(suffix: &str) -> Option<Self> {
        let is_date = suffix.len() == 8 && suffix.bytes().all(|byte| byte.is_ascii_digit());
        if !is_date {
            return None;
        }
        let number = |range: std::ops::Range<usize>| suffix[range].parse::<i64>().ok();
        let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
        calendar::days(year, month, day).map(Self)
    }
}

/// Which days have a part of their own: those kept, and the next two. Rows of other days, as of a clock that was wrong, lie in
/// the table's default part.
pub(super) fn has_part(day: Day, today: Day, kept_days: Option<i64>) -> bool {
    let oldest = kept_days.map_or(today.0 - 3_650, |kept| today.0 - kept);
    (oldest..=today.0 + AHEAD).contains(&day.0)
}

/// The days that get a part before anything lands in them.
pub(super) fn ahead(today: Day) -> impl Iterator<Item = Day> {
    (0..=AHEAD).map(move |days| Day(today.0 + days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_names_and_bounds() {
        for (ms, suffix, moment) in [
            (0, "19700101", "1970-01-01 00:00:00+00"),
            (1_709_164_800_000, "20240229", "2024-02-29 00:00:00+00"),
            (1_798_761_599_999, "20261231", "2026-12-31 00:00:00+00"),
        ] {
            let day = Day::of_ms(ms);
            assert_eq!(day.suffix(), suffix);
            assert_eq!(day.first_moment(), moment);
            assert_eq!(Day::of_suffix(suffix), Some(day));
        }
        for day in -1_000..60_000 {
            assert_eq!(Day::of_suffix(&Day(day).suffix()), Some(Day(day)));
        }
        assert_eq!(Day::of_suffix("default"), None);
    }

    #[test]
    fn ids_of_a_day_lie_within_it() {
        let day = Day(20_000);
        for ms in [0, 1, DAY_MS - 1] {
            let id = ExecutionId::derive((day.0 * DAY_MS + ms) as u64, "t", "g", "t", "i");
            assert_eq!(Day::of(&id), day);
            let id = id.to_string();
            assert!(id >= day.first_id() && id < Day(day.0 + 1).first_id());
        }
    }

    #[test]
    fn days_far_away_have_no_part() {
        let today = Day(20_000);
        for (day, kept, expected) in [
            (20_000, Some(7), true),
            (19_993, Some(7), true),
            (19_992, Some(7), false),
            (20_002, None, true),
            (20_003, None, false),
            (19_000, None, true),
            (0, None, false),
        ] {
            assert_eq!(has_part(Day(day), today, kept), expected, "{day} {kept:?}");
        }
    }
}
