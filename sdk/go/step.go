// Package step makes a Weir step of a Go function. A step takes events and returns events; it is a pure function of its input.
//
//	func init() { step.Handle(handle) }
//	func main() {}
//
//	func handle(ctx step.Context, events []step.Event) ([]step.Output, error) {
//		var order Order
//		if err := events[0].JSON(&order); err != nil {
//			return nil, err
//		}
//		return step.JSON(step.Out, Priced{order.ID, order.Cents * 119 / 100})
//	}
package step

import (
	"encoding/json"
	"strings"
	"time"
)

// Out is the port of a step for which the graph names none.
const Out = "out"

// Context says where a call stands. It never changes between two runs of the same execution, but for Attempt.
type Context struct {
	Tenant, Graph, Version, Execution, Step string
	// Attempt is 1 for the first try.
	Attempt uint32
	// Time is the trigger's; time.Now shows the same.
	Time time.Time
}

// Event is one event that came in.
type Event struct {
	// Edge is the edge it came over: "trigger" or "step.port".
	Edge string
	// Key is nil where the event has none.
	Key         []byte
	ContentType string
	Headers     []Header
	Data        []byte
}

// Header is one header; names may come more than once.
type Header struct {
	Name  string
	Value []byte
}

// Output is one event that goes out.
type Output struct {
	// Port must be one that the graph names for the step; Out where it names none.
	Port string
	// Key, where it is nil, is the input's.
	Key []byte
	// ContentType, where it is empty, is the input's.
	ContentType string
	Headers     []Header
	Data        []byte
}

// Handler is a step. events has one element, but for a step with `join`: then one for each event of its edges.
type Handler func(ctx Context, events []Event) ([]Output, error)

// Handle makes f the step that this component is. Call it from init: main does not run.
func Handle(f Handler) { handler = f }

var handler Handler = func(Context, []Event) ([]Output, error) {
	return nil, Fatal("the step calls step.Handle nowhere in an init function")
}

// JSON reads the data into v. What cannot be read is rejected: no later try will read it either.
func (e *Event) JSON(v any) error {
	if err := json.Unmarshal(e.Data, v); err != nil {
		return Reject("the event on %q is not the JSON expected: %w", e.Edge, err)
	}
	return nil
}

// Header returns the first header of that name, whatever its case; nil where there is none.
func (e *Event) Header(name string) []byte {
	for _, header := range e.Headers {
		if strings.EqualFold(header.Name, name) {
			return header.Value
		}
	}
	return nil
}

// Edge returns the first event that came over that edge; nil where that branch of a `join` was silent.
func Edge(events []Event, edge string) *Event {
	for i := range events {
		if events[i].Edge == edge {
			return &events[i]
		}
	}
	return nil
}

// JSON makes one output of v, for a step that emits one.
func JSON(port string, v any) ([]Output, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, Fatal("the output cannot be written as JSON: %w", err)
	}
	return []Output{{Port: port, ContentType: "application/json", Data: data}}, nil
}

// Settings reads what the graph says under the step's `settings`. Settings that do not fit are fatal: no event of this graph can
// work with them.
func Settings(v any) error {
	if err := json.Unmarshal([]byte(settings()), v); err != nil {
		return Fatal("the step's `settings` do not fit: %w", err)
	}
	return nil
}
