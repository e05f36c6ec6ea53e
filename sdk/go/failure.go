package step

import (
	"errors"
	"fmt"
	"time"
)

// Failure is an error that says what becomes of the input. Any other error that a Handler returns rejects the input: a step is a pure
// function, so a later try would fail the same way.
type Failure struct {
	kind  kind
	delay *time.Duration
	cause error
}

// In the order of the variant in step.wit.
type kind uint32

const (
	retry kind = iota
	reject
	fatal
)

// Retry asks for another try, as `retry:` in the graph allows. The arguments are those of [fmt.Errorf].
func Retry(format string, args ...any) error {
	return &Failure{kind: retry, cause: fmt.Errorf(format, args...)}
}

// RetryAfter asks for another try after a while.
func RetryAfter(delay time.Duration, format string, args ...any) error {
	return &Failure{kind: retry, delay: &delay, cause: fmt.Errorf(format, args...)}
}

// Reject says that this input can never work: it becomes a dead letter.
func Reject(format string, args ...any) error {
	return &Failure{kind: reject, cause: fmt.Errorf(format, args...)}
}

// Fatal says that nothing of this graph can work any more.
func Fatal(format string, args ...any) error {
	return &Failure{kind: fatal, cause: fmt.Errorf(format, args...)}
}

func (f *Failure) Error() string { return f.cause.Error() }

func (f *Failure) Unwrap() error { return f.cause }

// IsRetry, IsReject and IsFatal are for tests of a Handler: what Weir would make of its error.
func IsRetry(err error) bool { return err != nil && failure(err).kind == retry }

// IsReject: see [IsRetry].
func IsReject(err error) bool { return err != nil && failure(err).kind == reject }

// IsFatal: see [IsRetry].
func IsFatal(err error) bool { return err != nil && failure(err).kind == fatal }

// failure is what an error means; the outermost Failure in its chain decides, and the whole chain is the reason.
func failure(err error) Failure {
	meant := Failure{kind: reject}
	if said := (*Failure)(nil); errors.As(err, &said) {
		meant = *said
	}
	meant.cause = err
	return meant
}
