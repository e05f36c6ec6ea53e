-- Format 1 of the history's tables.
create table if not exists weir_executions (
  execution    uuid not null,
  segment      uuid not null,              -- the execution's id for its first segment
  tenant       text collate "C" not null,
  graph        text collate "C" not null,
  version      text collate "C" not null,  -- sha256 in hex
  "trigger"    text not null,
  trigger_id   text not null,
  status       text not null,              -- succeeded | failed
  failed_step  text,
  failure      text,                       -- the kind of failure: rejected, trap, time-out, …
  reason       text,
  attempt      bigint,
  started      json not null,              -- list: the segments that this one started
  logs         json not null,              -- list of {step, level, message}
  logs_dropped bigint not null,
  origin       text,
  triggered_at timestamptz not null,
  finished_at  timestamptz not null,
  primary key (execution, segment)
) partition by range (execution);
create index if not exists weir_executions_by_graph on weir_executions (tenant, graph, execution);
create table if not exists weir_executions_default partition of weir_executions default;

create table if not exists weir_outputs (
  execution    uuid not null,
  segment      uuid not null,
  number       bigint not null,            -- its place among the outputs of the segment
  tenant       text collate "C" not null,
  graph        text collate "C" not null,
  step         text not null,
  port         text not null,
  sinks        json not null,              -- list of sink names
  key          bytea,
  content_type text not null,
  headers      json not null,              -- list of [name, value]; a value that is no UTF-8 as {"base16": …}
  data         text,                       -- where it is UTF-8 without a NUL, which Postgres's text cannot hold
  data_bytes   bytea,                      -- else
  sha256       text collate "C",           -- set: data is {"sha256", "bytes"}, and the payload itself lies outside
  primary key (execution, segment, number)
) partition by range (execution);
create table if not exists weir_outputs_default partition of weir_outputs default;
