;; WASI 0.1 for modules of Go and C, on what Weir gives of WASI 0.2: clocks, randomness, and stderr for all that is printed.
;; Everything else is empty: no arguments, no environment, no files. The clocks are in `asked.wat` or `held.wat`.
;;
;; Why not the adapter of wasmtime: it asks the module for memory before Go's runtime is up, and it imports all of WASI.
;; What the host writes goes to address 16, and what was there is put back: nothing here may allocate.

  (import "env" "memory" (memory 0))
  (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $get_stderr (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
    (func $print (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop (param i32)))
  (import "wasi:clocks/wall-clock@0.2.0" "now" (func $wall_now (param i32)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $monotonic_now (result i64)))
  (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))

  (func (export "clock_res_get") (param $id i32) (param $to i32) (result i32)
    (i64.store (local.get $to) (i64.const 1000))
    (i32.const 0))

  (func (export "random_get") (param $to i32) (param $len i32) (result i32) (local $bits i64) (local $left i32)
    (block $done (loop $more
      (br_if $done (i32.eqz (local.get $len)))
      (if (i32.eqz (local.get $left)) (then
        (local.set $bits (call $random))
        (local.set $left (i32.const 8))))
      (i64.store8 (local.get $to) (local.get $bits))
      (local.set $bits (i64.shr_u (local.get $bits) (i64.const 8)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (local.set $to (i32.add (local.get $to) (i32.const 1)))
      (local.set $len (i32.sub (local.get $len) (i32.const 1)))
      (br $more)))
    (i32.const 0))

  ;; At most 4 KiB at a time, as the stream wants it.
  (func $write (param $stream i32) (param $from i32) (param $len i32) (local $part i32)
    (block $done (loop $more
      (br_if $done (i32.eqz (local.get $len)))
      (local.set $part (select (local.get $len) (i32.const 4096) (i32.lt_u (local.get $len) (i32.const 4096))))
      (call $print (local.get $stream) (local.get $from) (local.get $part) (i32.const 16))
      (local.set $from (i32.add (local.get $from) (local.get $part)))
      (local.set $len (i32.sub (local.get $len) (local.get $part)))
      (br $more))))

  (func (export "fd_write") (param $fd i32) (param $parts i32) (param $count i32) (param $written i32) (result i32)
    (local $a i64) (local $b i64) (local $stream i32) (local $sum i32)
    ;; stdout and stderr; there are no others
    (if (i32.gt_u (i32.sub (local.get $fd) (i32.const 1)) (i32.const 1)) (then (return (i32.const 8))))
    (local.set $a (i64.load (i32.const 16)))
    (local.set $b (i64.load (i32.const 24)))
    (local.set $stream (call $get_stderr))
    (block $done (loop $more
      (br_if $done (i32.eqz (local.get $count)))
      (call $write (local.get $stream) (i32.load (local.get $parts)) (i32.load offset=4 (local.get $parts)))
      (local.set $sum (i32.add (local.get $sum) (i32.load offset=4 (local.get $parts))))
      (local.set $parts (i32.add (local.get $parts) (i32.const 8)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $more)))
    (call $drop (local.get $stream))
    (i64.store (i32.const 16) (local.get $a))
    (i64.store (i32.const 24) (local.get $b))
    (i32.store (local.get $written) (local.get $sum))
    (i32.const 0))

  ;; Of what it is asked to wait for only a clock ever comes about. It is awaited by letting its time pass.
  (func (export "poll_oneoff") (param $in i32) (param $out i32) (param $count i32) (param $ready i32) (result i32)
    (local $for i64)
    (block $done (loop $more
      ;; Nothing would ever happen.
      (if (i32.eqz (local.get $count)) (then unreachable))
      (br_if $done (i32.eqz (i32.load8_u offset=8 (local.get $in))))
      (local.set $in (i32.add (local.get $in) (i32.const 48)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $more)))
    (local.set $for (i64.load offset=24 (local.get $in)))
    (if (i32.and (i32.load16_u offset=40 (local.get $in)) (i32.const 1)) (then
      (local.set $for (i64.sub (local.get $for) (call $now)))))
    (if (i64.gt_s (local.get $for) (i64.const 0)) (then
      (call $sleep (local.get $for))))
    (i64.store (local.get $out) (i64.load (local.get $in)))
    (i64.store offset=8 (local.get $out) (i64.const 0))
    (i32.store (local.get $ready) (i32.const 1))
    (i32.const 0))

  (func $none (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $none))
  (export "environ_sizes_get" (func $none))
  (func $nothing (param i32 i32) (result i32) (i32.const 0))
  (export "args_get" (func $nothing))
  (export "environ_get" (func $nothing))

  (func (export "proc_exit") (param i32) unreachable)
  (func (export "sched_yield") (result i32) (i32.const 0))

  ;; stdin, stdout and stderr are streams without a place; others are bad descriptors.
  (func (export "fd_fdstat_get") (param $fd i32) (param $to i32) (result i32)
    (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return (i32.const 8))))
    (i64.store (local.get $to) (i64.const 2))
    (i64.store offset=8 (local.get $to) (i64.const 0x40))
    (i64.store offset=16 (local.get $to) (i64.const 0))
    (i32.const 0))
  (func (export "fd_fdstat_set_flags") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_close") (param i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (i32.const 70))
  (func (export "fd_read") (param i32 i32 i32 i32) (result i32) (i32.const 8))
