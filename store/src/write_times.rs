//! The time from which on a destination counts the write times of a partition's rows.
//!
//! A database that lets the later of two writes win is given the base of the partition and the record's offset. The base
//! is fixed by the first who asks and kept here, not in the destination: one that has lost everything is written again with
//! the times of the first writing. A topic that is made anew has another id, and so a later base.

use crate::database::sql;
use crate::{Result, Store};

impl Store {
    /// The base of this partition, in microseconds since 1970; `now_us` becomes it if it has none yet.
    pub async fn write_time_base(
        &self,
        topic_id: &str,
        partition: u32,
        now_us: i64,
    ) -> Result<i64> {
        let select = sql("select base_us from write_times where topic_id = $1 and number = $2");
        let select = select.bind(topic_id).bind(partition);
        if let Some((base,)) = self.database.optional::<(i64,)>(select.clone()).await? {
            return Ok(base);
        }
        let mut transaction = self.database.begin().await?;
        let insert = sql(
            "insert into write_times (topic_id, number, base_us) values ($1, $2, $3)
             on conflict (topic_id, number) do nothing",
        );
        let insert = insert.bind(topic_id).bind(partition).bind(now_us);
        transaction.execute(insert).await?;
        // another process may have been first
        let base = transaction.optional::<(i64,)>(select).await?;
        transaction.commit().await?;
        let (base,) = base.ok_or_else(|| self.database.corrupt("a write time is gone at once"))?;
        Ok(base)
    }
}
