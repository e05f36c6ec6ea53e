//! Outputs: their keys first, which say how many there are and in which order, then the contents of as many as an answer carries.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use scylla::DeserializeRow;
use uuid::Uuid;

use super::days::bucket;
use super::open::{Fault, Open};
use crate::history::{OUTPUT_BYTES_MAX, OUTPUTS_MAX, Output};

/// Outputs of one segment that are read together, and how many such parts at once: some 32 MiB at most.
const PART: usize = 16;
const PARTS_MAX: usize = 4;

#[derive(DeserializeRow)]
struct Row {
    segment: Uuid,
    number: i32,
    step: String,
    port: String,
    sinks: String,
    key: Option<Vec<u8>>,
    content_type: String,
    headers: String,
    data: Option<String>,
    data_bytes: Option<Vec<u8>>,
    sha256: Option<String>,
}

impl Row {
    fn output(self) -> Result<Output, Fault> {
        let data = self.data.map(String::into_bytes).or(self.data_bytes);
        Ok(Output {
            segment: self.segment.to_string(),
            number: self.number.into(),
            step: self.step,
            port: self.port,
            sinks: self.sinks,
            key: self.key,
            content_type: self.content_type,
            headers: self.headers,
            data: data.ok_or_else(|| Fault::Damaged("an output has no data".into()))?,
            sha256: self.sha256,
        })
    }
}

/// Numbers of a segment's outputs, both ends included.
type Part = (Uuid, i32, i32);

impl Open {
    /// The first ones, and how many there are.
    pub(super) async fn outputs(
        &self,
        tenant: &str,
        execution: &str,
    ) -> Result<(Vec<Output>, i64), Fault> {
        let Ok(execution) = execution.parse::<Uuid>() else {
            return Ok((Vec::new(), 0));
        };
        let (day, slice) = bucket(execution);
        let values = (tenant, day, slice, execution);
        let mut keys: Vec<(Uuid, i32)> = self.all(&self.output_keys, values).await?;
        let total = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        keys.sort_unstable();
        keys.truncate(OUTPUTS_MAX);
        let read = parts(&keys)
            .into_iter()
            .map(|part| self.part(tenant, execution, part));
        let mut read = stream::iter(read).buffered(PARTS_MAX);
        let (mut outputs, mut bytes) = (Vec::new(), 0);
        while let Some(part) = read.try_next().await? {
            for output in part {
                bytes += i64::try_from(output.data.len()).unwrap_or(i64::MAX);
                if bytes > OUTPUT_BYTES_MAX && !outputs.is_empty() {
                    return Ok((outputs, total));
                }
                outputs.push(output);
            }
        }
        Ok((outputs, total))
    }

    pub(super) async fn output(
        &self,
        tenant: &str,
        execution: &str,
        (segment, number): (&str, i64),
    ) -> Result<Vec<Output>, Fault> {
        let (Ok(execution), Ok(segment), Ok(number)) =
            (execution.parse(), segment.parse(), i32::try_from(number))
        else {
            return Ok(Vec::new());
        };
        self.part(tenant, execution, (segment, number, number))
            .await
    }

    async fn part(
        &self,
        tenant: &str,
        execution: Uuid,
        (segment, first, last): Part,
    ) -> Result<Vec<Output>, Fault> {
        let (day, slice) = bucket(execution);
        let values = (tenant, day, slice, execution, segment, first, last);
        let rows: Vec<Row> = self.all(&self.outputs, values).await?;
        rows.into_iter().map(Row::output).collect()
    }
}

/// Of keys in their order.
fn parts(keys: &[(Uuid, i32)]) -> Vec<Part> {
    let segments = keys.chunk_by(|a, b| a.0 == b.0);
    let parts = segments.flat_map(|segment| segment.chunks(PART));
    parts
        .filter_map(|part| {
            let (first, last) = (part.first()?, part.last()?);
            Some((first.0, first.1, last.1))
        })
        .collect()
}
