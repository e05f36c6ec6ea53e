//go:build !wasip1

package step

import "os"

// In unit tests they come from the environment.
func settings() string {
	if text, ok := os.LookupEnv("WEIR_STEP_SETTINGS"); ok {
		return text
	}
	return "{}"
}
