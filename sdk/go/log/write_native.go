//go:build !wasip1

package log

import (
	"fmt"
	"os"
)

func write(level uint32, message string) {
	fmt.Fprintln(os.Stderr, [...]string{"debug:", "info:", "warn:", "error:"}[level], message)
}
