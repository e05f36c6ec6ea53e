//! Records that kill the process that runs them: how one is found and kept from killing for ever. Pure.
//!
//! What is known travels in the metadata of a partition's committed offset, the only memory that outlives a process:
//! `e=7;s=2;u=1100;r=1042;d=1`
//! - `e`: the highest epoch of a graph's change that the lane had followed;
//! - `s`: starts without progress. An owner counts itself there before it runs its first record; its first commit of
//!   results clears it, so that only deaths (and owners cut off) leave a count behind;
//! - `u`: from the third start on records run one by one up to this offset;
//! - `r`, `d`: the record noted before it ran, and how many owners in a row have died with it noted.
//!
//! A record noted at three deaths in a row becomes a dead letter. One death proves nothing: a machine may have failed,
//! or a record of another partition in the same process.

use std::fmt::Write as _;

/// This many starts without progress, and records run one by one.
pub const STARTS_MAX: u32 = 3;
/// This many deaths in a row with the same record noted, and it is a dead letter.
pub const DEATHS_MAX: u32 = 3;
/// How many offsets an owner without progress takes at most at first, and so how many run one by one later.
pub const PROBE: i64 = 100;

/// What the metadata of a committed offset says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    pub epoch: u64,
    pub starts: u32,
    /// Exclusive; 0: none.
    pub until: i64,
    /// The record noted, and its deaths so far.
    pub record: Option<(i64, u32)>,
}

impl Note {
    /// Anything that is not ours to read counts as nothing: somebody may have set the offset by hand.
    pub fn parse(metadata: &str) -> Self {
        let mut note = Self::default();
        let (mut record, mut deaths) = (None, 0);
        for field in metadata.split(';') {
            let Some((name, value)) = field.split_once('=') else {
                continue;
            };
            match name {
                "e" => note.epoch = value.parse().unwrap_or(0),
                "s" => note.starts = value.parse().unwrap_or(0),
                "u" => note.until = value.parse().unwrap_or(0),
                "r" => record = value.parse().ok(),
                "d" => deaths = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        note.record = record.map(|offset| (offset, deaths));
        note
    }

    pub fn format(&self) -> String {
        let mut text = format!("e={}", self.epoch);
        let mut field = |name: &str, value: i64| {
            write!(text, ";{name}={value}").expect("a String takes what is written");
        };
        if self.starts > 0 {
            field("s", self.starts.into());
        }
        if self.until > 0 {
            field("u", self.until);
        }
        if let Some((offset, deaths)) = self.record {
            field("r", offset);
            field("d", deaths.into());
        }
        text
    }
}

/// How one partition stands with its present owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has been run yet; the last owner left this note.
    New(Note),
    /// The owner has counted itself and not got anything committed yet: until then it runs only what lies below.
    Counted { below: i64 },
    /// Records run one by one up to here (exclusive); the note is what was found.
    Careful { until: i64, found: Note },
    /// Results have been committed.
    Proven,
}

/// What to do with a partition's next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Commit this note at the partition's committed offset, then ask again.
    Count { note: Note, then: Standing },
    /// Run it with others; of this partition only what lies below the offset, if one is given.
    Together { below: Option<i64> },
    /// Only after the next commit.
    Later,
    /// Commit this note at the record's offset, then run it alone.
    Alone { note: Note },
    /// It has killed often enough: a dead letter.
    Condemned,
}

impl Standing {
    /// `first`: the offset of the first record that this owner has of the partition; `epoch`: for the note.
    pub fn next(&self, offset: i64, epoch: u64) -> Next {
        match *self {
            Self::New(found) if found.starts + 1 >= STARTS_MAX => {
                let until = if found.until > offset {
                    found.until
                } else {
                    offset + PROBE
                };
                let note = Note {
                    epoch,
                    starts: STARTS_MAX,
                    until,
                    record: found.record,
                };
                Next::Count {
                    note,
                    then: Self::Careful { until, found },
                }
            }
            Self::New(found) => {
                let note = Note {
                    epoch,
                    starts: found.starts + 1,
                    ..Note::default()
                };
                Next::Count {
                    note,
                    then: Self::Counted {
                        below: offset + PROBE,
                    },
                }
            }
            Self::Counted { below } if offset >= below => Next::Later,
            Self::Counted { below } => Next::Together { below: Some(below) },
            Self::Proven => Next::Together { below: None },
            Self::Careful { until, found } => {
                let deaths = match found.record {
                    Some((noted, deaths)) if noted == offset => deaths + 1,
                    _ => 0,
                };
                if deaths >= DEATHS_MAX {
                    return Next::Condemned;
                }
                let note = Note {
                    epoch,
                    starts: STARTS_MAX,
                    until,
                    record: Some((offset, deaths)),
                };
                Next::Alone { note }
            }
        }
    }

    /// The same owner reads on from the committed offset. A commit that failed may have happened all the same: then there
    /// was progress.
    pub fn after_rewind(&self, before: i64, committed: i64) -> Self {
        match *self {
            Self::Counted { .. } if committed > before => Self::Proven,
            standing => standing,
        }
    }

    /// Results up to `next_offset` (exclusive) are about to be committed: the note that goes with them, and the standing after it.
    pub fn progress(&self, next_offset: i64, epoch: u64) -> (Note, Self) {
        let plain = Note {
            epoch,
            ..Note::default()
        };
        match *self {
            Self::Careful { until, found } if next_offset < until => {
                let note = Note {
                    starts: STARTS_MAX,
                    until,
                    ..plain
                };
                let found = Note {
                    record: None,
                    ..found
                };
                (note, Self::Careful { until, found })
            }
            _ => (plain, Self::Proven),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_it_was() {
        for note in [
            Note::default(),
            Note {
                epoch: 7,
                ..Note::default()
            },
            Note {
                epoch: 7,
                starts: 2,
                until: 1_100,
                record: Some((1_042, 1)),
            },
        ] {
            assert_eq!(Note::parse(&note.format()), note);
        }
        assert_eq!(
            Note {
                epoch: 7,
                ..Note::default()
            }
            .format(),
            "e=7"
        );
        assert_eq!(Note::parse("set by hand"), Note::default());
        assert_eq!(Note::parse("e=x;s=-1;r=;;=;"), Note::default());
    }

    /// Owners that start, run `log` from the committed offset, and die whenever they run one of `killers`.
    fn owners(killers: &[i64], end: i64) -> (u32, Vec<i64>) {
        let (mut committed, mut metadata) = (0, String::new());
        let (mut deaths, mut condemned) = (0, Vec::new());
        'owner: loop {
            assert!(deaths < 100, "it goes on for ever");
            let mut standing = Standing::New(Note::parse(&metadata));
            while committed < end {
                match standing.next(committed, 1) {
                    Next::Count { note, then } => {
                        metadata = note.format();
                        standing = then;
                        continue;
                    }
                    Next::Condemned => condemned.push(committed),
                    Next::Later => panic!("everything below has been committed"),
                    Next::Alone { note } => {
                        metadata = note.format();
                        if killers.contains(&committed) {
                            deaths += 1;
                            continue 'owner;
                        }
                    }
                    Next::Together { below } => {
                        let last = below.unwrap_or(committed + 1_000).min(end);
                        if killers.iter().any(|k| (committed..last).contains(k)) {
                            deaths += 1;
                            continue 'owner;
                        }
                        committed = last - 1;
                    }
                }
                committed += 1;
                let (note, after) = standing.progress(committed, 1);
                (metadata, standing) = (note.format(), after);
            }
            return (deaths, condemned);
        }
    }

    #[test]
    fn a_record_that_kills_is_the_only_one_condemned() {
        for killer in [0, 1, 42, 99, 100, 101, 4_242] {
            let (deaths, condemned) = owners(&[killer], 10_000);
            assert_eq!(condemned, [killer]);
            assert!(deaths <= 7, "{killer}: {deaths} deaths");
        }
        let (deaths, condemned) = owners(&[7, 8, 5_000], 10_000);
        assert_eq!(condemned, [7, 8, 5_000]);
        // An owner that dies in its second transaction has got one probe further.
        assert!(deaths <= 30, "{deaths}");
        assert_eq!(owners(&[], 10_000), (0, vec![]));
    }

    #[test]
    fn deaths_without_progress_condemn_nobody_by_themselves() {
        // an owner that dies again and again before it runs anything
        let mut metadata = String::new();
        for _ in 0..10 {
            let standing = Standing::New(Note::parse(&metadata));
            if let Next::Count { note, .. } = standing.next(5, 1) {
                metadata = note.format();
            }
        }
        let Next::Count { then, .. } = Standing::New(Note::parse(&metadata)).next(5, 1) else {
            panic!("an owner counts itself first");
        };
        assert!(matches!(then.next(5, 1), Next::Alone { .. }));
    }

    #[test]
    fn two_deaths_and_a_success_clear_the_count() {
        let found = Note {
            epoch: 1,
            starts: 3,
            until: 200,
            record: Some((100, 1)),
        };
        let careful = Standing::Careful { until: 200, found };
        let Next::Alone { note } = careful.next(100, 1) else {
            panic!("two deaths are no proof");
        };
        assert_eq!(note.record, Some((100, 2)));
        let (note, after) = careful.progress(101, 1);
        assert_eq!((note.record, note.starts), (None, STARTS_MAX));
        let Next::Alone { note } = after.next(101, 1) else {
            panic!("still one by one");
        };
        assert_eq!(note.record, Some((101, 0)));
        let (note, after) = after.progress(200, 1);
        assert_eq!((note.starts, after), (0, Standing::Proven));
    }
}
