//! On which days a tenant has rows: the table by which readers find the partitions. Pure.
//!
//! A row says for one partition of the log that its records have come to rows of a day. So its writes come with growing times, and it
//! expires with the last of those rows, whatever the other partitions do.

use std::collections::HashMap;

use topics::{Fetched, Partition};

use super::rows::{OurRow, Table, big, bucket, date, day, int, text};
use crate::batch::{Landing, Row};
use crate::rows::UNREADABLE;

/// What a batch comes to, each row once.
#[derive(Default)]
pub(super) struct Days<'b>(HashMap<Key<'b>, At>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'b> {
    kind: &'static str,
    tenant: &'b str,
    /// Empty: of all graphs.
    graph: &'b str,
    day: i32,
    partition: &'b Partition,
}

/// Of its last record.
#[derive(Clone, Copy)]
struct At {
    time_us: i64,
    record_ms: i64,
}

impl<'b> Days<'b> {
    /// `history`: as for the rows themselves.
    pub(super) fn of_landing(&mut self, landing: &'b Landing, history: bool, time_us: i64) {
        let from = &landing.from;
        match &landing.row {
            Row::Unreadable(_) => self.letter(UNREADABLE, from, time_us),
            _ if !history => {}
            Row::Result(result) => {
                let (day, _) = bucket(result.execution);
                for graph in ["", &result.graph] {
                    self.note("executions", &result.tenant, graph, day, from, time_us);
                }
            }
            Row::DeadLetter(letter) => self.letter(&letter.tenant, from, time_us),
            Row::Purge(_) => {}
        }
    }

    /// A dead letter that this record has become.
    pub(super) fn letter(&mut self, tenant: &'b str, from: &'b Fetched, time_us: i64) {
        let day = day(from.record.timestamp_ms);
        self.note("dead-letters", tenant, "", day, from, time_us);
    }

    fn note(
        &mut self,
        kind: &'static str,
        tenant: &'b str,
        graph: &'b str,
        day: i32,
        from: &'b Fetched,
        time_us: i64,
    ) {
        let partition = &from.partition;
        let key = Key {
            kind,
            tenant,
            graph,
            day,
            partition,
        };
        let at = At {
            time_us,
            record_ms: from.record.timestamp_ms,
        };
        let last = self.0.entry(key).or_insert(at);
        if last.time_us < time_us {
            *last = at;
        }
    }

    pub(super) fn rows(self) -> impl Iterator<Item = OurRow> {
        self.0.into_iter().map(|(key, at)| {
            let row = vec![
                text(key.tenant),
                text(key.kind),
                text(key.graph),
                date(key.day),
                text(&*key.partition.topic),
                int(key.partition.number),
                big(at.record_ms),
            ];
            let partition = (key.tenant, key.kind, key.graph);
            OurRow::new(Table::Days, partition, row, at.time_us)
        })
    }
}
