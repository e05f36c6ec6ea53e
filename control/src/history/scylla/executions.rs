//! Executions: their ids, newest days first, and what their segments came to.

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use scylla::DeserializeRow;
use uuid::Uuid;

use super::days::{SLICES, Whose, bound, bucket, day_of};
use super::open::{Fault, Open, broken};
use crate::history::{Range, Segment};

/// Executions whose segments are asked for at once.
const ASKED_MAX: usize = 32;

#[derive(DeserializeRow)]
struct Row {
    execution: Uuid,
    segment: Uuid,
    graph: String,
    version: String,
    trigger: String,
    trigger_id: String,
    status: String,
    failed_step: Option<String>,
    failure: Option<String>,
    reason: Option<String>,
    attempt: Option<i32>,
    started: String,
    logs: String,
    logs_dropped: i64,
    origin: Option<String>,
    triggered_at_us: i64,
    finished_at_ms: i64,
}

impl Row {
    fn segment(self) -> Result<Segment, Fault> {
        let started = serde_json::from_str(&self.started);
        Ok(Segment {
            execution: self.execution.to_string(),
            segment: self.segment.to_string(),
            graph: self.graph,
            version: self.version,
            trigger: self.trigger,
            trigger_id: self.trigger_id,
            failed: self.status != "succeeded",
            failed_step: self.failed_step,
            failure: self.failure,
            reason: self.reason,
            attempt: self.attempt.map(i64::from),
            started: started.map_err(|error| Fault::Damaged(error.to_string()))?,
            logs: self.logs,
            logs_dropped: self.logs_dropped,
            origin: self.origin,
            triggered_at_us: self.triggered_at_us,
            finished_at_ms: self.finished_at_ms,
        })
    }
}

impl Open {
    /// Day by day, the sixteen slices of each at once.
    pub(super) async fn ids(&self, range: &Range<'_>, limit: u32) -> Result<Vec<String>, Fault> {
        let bounds = (bound(range.from)?, bound(range.below)?);
        let whose = Whose {
            tenant: range.tenant,
            kind: "executions",
            graph: range.graph.unwrap_or_default(),
        };
        let (first, last) = (day_of(bounds.0), day_of(bounds.1));
        let mut days = self.days(&self.days_down, whose, first, last).await?;
        let mut found: Vec<String> = Vec::new();
        while found.len() < limit as usize
            && let Some(day) = days.next().await?
        {
            let left = limit as usize - found.len();
            let slices = (0..SLICES).map(|slice| self.slice(range, day, slice, bounds, left));
            let mut of_day = future::try_join_all(slices).await?.concat();
            of_day.sort_unstable_by(|a, b| b.cmp(a));
            found.extend(of_day.iter().take(left).map(Uuid::to_string));
        }
        Ok(found)
    }

    /// The last of a slice, the latest first; a row is a segment.
    async fn slice(
        &self,
        range: &Range<'_>,
        day: i32,
        slice: i8,
        (from, below): (Uuid, Uuid),
        limit: usize,
    ) -> Result<Vec<Uuid>, Fault> {
        let tenant = range.tenant;
        let mut rows = match range.graph {
            None => {
                let values = (tenant, day, slice, from, below);
                self.rows::<(Uuid,)>(&self.ids, values).await?
            }
            Some(graph) => {
                let values = (tenant, graph, day, slice, from, below);
                self.rows::<(Uuid,)>(&self.ids_of_graph, values).await?
            }
        };
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((id,)) = rows.try_next().await.map_err(broken)?
        {
            if found.last() != Some(&id) {
                found.push(id);
            }
        }
        Ok(found)
    }

    pub(super) async fn segments(
        &self,
        tenant: &str,
        ids: &[String],
    ) -> Result<Vec<Segment>, Fault> {
        // what is no id has no rows
        let mut ids: Vec<Uuid> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.dedup();
        let of = ids.into_iter().map(|id| self.segments_of(tenant, id));
        let mut found = stream::iter(of).buffered(ASKED_MAX);
        let mut segments = Vec::new();
        while let Some(mut rows) = found.try_next().await? {
            rows.sort_unstable_by_key(|row| row.segment);
            for row in rows {
                segments.push(row.segment()?);
            }
        }
        Ok(segments)
    }

    async fn segments_of(&self, tenant: &str, execution: Uuid) -> Result<Vec<Row>, Fault> {
        let (day, slice) = bucket(execution);
        self.all(&self.segments, (tenant, day, slice, execution))
            .await
    }
}
