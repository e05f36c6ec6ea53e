package secrets

import "unsafe"

//go:wasmimport weir:step/secrets@1.0.0 get
func importGet(name string, to unsafe.Pointer)

var value [2]uint32

func get(name string) string {
	importGet(name, unsafe.Pointer(&value))
	return unsafe.String((*byte)(unsafe.Add(unsafe.Pointer(nil), value[0])), value[1])
}
