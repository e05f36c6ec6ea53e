-- The tables of a destination with `history = true`. Read by the control plane (`weir exec`, `weir dlq`) and by whoever
-- likes SQL. Execution ids are time-ordered, so rows append.
create table if not exists weir_executions (
  execution       text not null,
  segment         text not null,           -- the execution's id for its first segment
  tenant          text not null,
  graph           text not null,
  version         text not null,           -- sha256 in hex
  "trigger"       text not null,
  trigger_id      text not null,
  status          text not null,           -- succeeded | failed
  failed_step     text,
  failure         text,                    -- the kind of failure: rejected, trap, time-out, …
  reason          text,
  attempt         integer,
  started         text not null,           -- JSON list: the segments that this one started
  logs            text not null,           -- JSON list of {step, level, message}
  logs_dropped    integer not null,
  origin          text,
  triggered_at_us integer not null,
  finished_at_ms  integer not null,
  primary key (execution, segment)
) without rowid;
create index if not exists weir_executions_by_graph on weir_executions (tenant, graph, execution);

create table if not exists weir_outputs (
  execution    text not null,
  segment      text not null,
  number       integer not null,           -- its place among the outputs of the segment
  tenant       text not null,
  graph        text not null,
  step         text not null,
  port         text not null,
  sinks        text not null,              -- JSON list of sink names
  key          blob,
  content_type text not null,
  headers      text not null,              -- JSON list of [name, value]; a value that is no UTF-8 as {"base16": …}
  data         not null,                   -- text where it is UTF-8, else a blob; no type, or SQLite would make 7 of "007"
  sha256       text,                       -- set: data is {"sha256", "bytes"}, and the payload itself lies outside
  primary key (execution, segment, number)
) without rowid;

create table if not exists weir_dead_letters (
  id           text primary key,           -- partition-offset on weir.dead-letters
  tenant       text not null,
  graph        text,
  version      text,
  execution    text,
  step         text,
  kind         text not null,
  reason       text not null,
  attempt      integer not null,
  topic        text not null,              -- where the original came from
  "partition"  integer not null,
  "offset"     integer not null,
  key          blob,                       -- the original's key, value and headers, unchanged
  value        blob,
  headers      text not null,
  died_at_ms   integer not null,
  purged_at_ms integer                     -- since then key, value and headers are gone
) without rowid;
create index if not exists weir_dead_letters_by_time on weir_dead_letters (tenant, died_at_ms, id);

create table if not exists weir_positions (
  topic       text not null,
  "partition" integer not null,
  next_offset integer not null,
  primary key (topic, "partition")
) without rowid;
