;; Clocks for modules that say at the beginning of a call what time it is, as Go's SDK does. Its runtime looks at them when the host asks
;; it for memory, and no component may ask its host for anything at that moment.
;;
;; The wall clock stands still. The other one moves by 1 us with every look, as Weir's does, so that a loop that waits for it ends; it never
;; goes back, though an instance that is kept sees one record after the other.

  (global $wall (mut i64) (i64.const 1000000000))
  (global $monotonic (mut i64) (i64.const 1000000000))

  (func (export "weir_clock_set") (param $us i64)
    (global.set $wall (i64.mul (local.get $us) (i64.const 1000)))
    (if (i64.gt_u (global.get $wall) (global.get $monotonic)) (then
      (global.set $monotonic (global.get $wall)))))

  (func $sleep (param $ns i64)
    (global.set $monotonic (i64.add (global.get $monotonic) (local.get $ns))))

  (func $now (result i64)
    (call $sleep (i64.const 1000))
    (global.get $monotonic))

  (func (export "clock_time_get") (param $id i32) (param $precision i64) (param $to i32) (result i32)
    (if (local.get $id)
      (then (i64.store (local.get $to) (call $now)))
      (else (i64.store (local.get $to) (global.get $wall))))
    (i32.const 0))
