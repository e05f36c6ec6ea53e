-- What format 1 (Weir 0.1) made in SQLite, and what it wrote. Never edited: stores like this one are opened for ever.
create table counters (name text not null primary key, value bigint not null);
create table modules (digest text not null primary key, bytes blob not null);
create table versions (version text not null primary key, canonical blob not null);
create table graphs (
        tenant text not null, graph text not null, version text not null, epoch bigint not null, at_ms bigint not null,
        primary key (tenant, graph));
create table changes (
        epoch bigint not null primary key, tenant text not null, graph text not null, kind text not null,
        version text not null, source text not null, at_ms bigint not null);
create index changes_of_graph on changes (tenant, graph, epoch);
create table webhooks (
        tenant text not null, path text not null, graph text not null, trigger_name text not null,
        primary key (tenant, path));
create index webhooks_of_graph on webhooks (tenant, graph);
create table inbox_keys (
        id integer primary key, hash blob not null, execution blob not null, body_sha256 blob not null,
        at_ms bigint not null);
create unique index inbox_keys_hash on inbox_keys (hash);
create table inbox_batches (
        shard bigint not null, first_number bigint not null, n bigint not null, keys blob not null, data blob not null);
create unique index inbox_batches_number on inbox_batches (shard, first_number);
select 1;

create table store_format (format bigint not null);
insert into store_format values (1);
insert into counters (name, value) values ('epoch', 2);
insert into versions (version, canonical) values ('6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b', x'31'), ('d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35', x'32');
insert into changes (epoch, tenant, graph, kind, version, source, at_ms) values
  (1, 'default', 'old', 'applied', '6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b', '# 1', 10),
  (2, 'default', 'old', 'applied', 'd4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35', '# 2', 20);
insert into graphs (tenant, graph, version, epoch, at_ms) values ('default', 'old', 'd4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35', 2, 20);
insert into webhooks (tenant, path, graph, trigger_name) values ('default', '/old', 'old', 'hook');
