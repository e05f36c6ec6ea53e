package log

//go:wasmimport weir:step/log@1.0.0 write
func write(level uint32, message string)
