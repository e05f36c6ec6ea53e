//go:build !wasip1

package secrets

import "os"

// In unit tests they come from the environment.
func get(name string) string {
	value, ok := os.LookupEnv(name)
	if !ok {
		panic("set " + name + " in the environment of the test")
	}
	return value
}
