// Package log writes lines for the execution's log. A step that imports it needs `log: true` in its graph.
package log

import "fmt"

// In the order of the enum in step.wit.
const (
	levelDebug uint32 = iota
	levelInfo
	levelWarn
	levelError
)

// Debug writes a line for who looks into one execution closely.
func Debug(format string, args ...any) { write(levelDebug, fmt.Sprintf(format, args...)) }

// Info writes a line for everyone.
func Info(format string, args ...any) { write(levelInfo, fmt.Sprintf(format, args...)) }

// Warn tells of something odd that the step could live with.
func Warn(format string, args ...any) { write(levelWarn, fmt.Sprintf(format, args...)) }

// Error tells of something that went wrong.
func Error(format string, args ...any) { write(levelError, fmt.Sprintf(format, args...)) }
