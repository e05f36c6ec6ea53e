// A step that adds the total, tax included, to an order.
package main

import "weir.local/step"

// What the graph says under `settings`.
type settings struct {
	Percent int64 `json:"percent"`
}

type order struct {
	ID    string `json:"id"`
	Cents *int64 `json:"cents"`
}

type priced struct {
	order
	Total int64 `json:"total"`
}

func init() { step.Handle(handle) }

func main() {}

func handle(ctx step.Context, events []step.Event) ([]step.Output, error) {
	var set settings
	if err := step.Settings(&set); err != nil {
		return nil, err
	}
	var in order
	if err := events[0].JSON(&in); err != nil {
		return nil, err
	}
	if in.Cents == nil {
		return nil, step.Reject("the order %q has no `cents`", in.ID)
	}
	return step.JSON(step.Out, priced{in, *in.Cents * (100 + set.Percent) / 100})
}
