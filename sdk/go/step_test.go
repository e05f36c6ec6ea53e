package step

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestWhatErrorsMean(t *testing.T) {
	for _, c := range []struct {
		err  error
		is   func(error) bool
		text string
	}{
		{errors.New("no"), IsReject, "no"},
		{Reject("no %d", 1), IsReject, "no 1"},
		{fmt.Errorf("asking: %w", Retry("busy")), IsRetry, "asking: busy"},
		{RetryAfter(time.Second, "busy"), IsRetry, "busy"},
		{Fatal("gone: %w", errors.ErrUnsupported), IsFatal, "gone: unsupported operation"},
	} {
		if f := failure(c.err); !c.is(c.err) || f.Error() != c.text {
			t.Errorf("%v: %v", c.err, f.Error())
		}
	}
	if IsReject(nil) || !errors.Is(Fatal("%w", errors.ErrUnsupported), errors.ErrUnsupported) {
		t.Error("nil is no failure, and a failure keeps its cause")
	}
}

func TestReading(t *testing.T) {
	event := Event{Edge: "trigger", Data: []byte(`{"id":`), Headers: []Header{{"X-A", []byte("1")}}}
	if err := event.JSON(new(struct{})); !IsReject(err) {
		t.Error(err)
	}
	if string(event.Header("x-a")) != "1" || event.Header("x-b") != nil {
		t.Error("names of headers have no case")
	}
	if events := []Event{event}; Edge(events, "trigger") != &events[0] || Edge(events, "a.out") != nil {
		t.Error("an event is found by its edge")
	}
}

func TestSettings(t *testing.T) {
	t.Setenv("WEIR_STEP_SETTINGS", `{"currency":"EUR"}`)
	var set struct{ Currency string }
	if err := Settings(&set); err != nil || set.Currency != "EUR" {
		t.Error(err, set)
	}
	if err := Settings(new([]string)); !IsFatal(err) {
		t.Error(err)
	}
}
