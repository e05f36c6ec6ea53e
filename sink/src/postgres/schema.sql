-- Format 1 of a destination in Postgres. Every destination has weir_positions and weir_dead_letters; the other two are made
-- where `history = true`. Executions' ids begin with their time, so a day of them is a range of ids.
create table if not exists weir_positions (
  topic       text collate "C" not null,
  "partition" integer not null,
  next_offset bigint not null,
  primary key (topic, "partition")
) with (fillfactor = 50);

create table if not exists weir_dead_letters (
  id          text collate "C" not null,   -- partition-offset on weir.dead-letters; longer for those of this sink
  tenant      text collate "C" not null,
  graph       text collate "C",
  version     text collate "C",
  execution   uuid,
  step        text,
  kind        text not null,
  reason      text not null,
  attempt     bigint not null,
  topic       text not null,               -- where the original came from
  "partition" bigint not null,
  "offset"    bigint not null,
  key         bytea,                       -- the original's key, value and headers, unchanged
  value       bytea,
  headers     json not null,
  died_at     timestamptz not null,
  purged_at   timestamptz,                 -- since then key, value and headers are gone
  primary key (id, died_at)
) partition by range (died_at);
create index if not exists weir_dead_letters_by_time on weir_dead_letters (tenant, died_at, id);
create table if not exists weir_dead_letters_default partition of weir_dead_letters default;
