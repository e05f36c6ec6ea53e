package main

import (
	"testing"

	"weir.local/step"
)

func TestOrdersGetTheirTotal(t *testing.T) {
	t.Setenv("WEIR_STEP_SETTINGS", `{"percent":19}`)
	for data, want := range map[string]string{
		`{"id":"a-1","cents":1000}`: `{"id":"a-1","cents":1000,"total":1190}`,
		`{"id":"a-2"}`:              "",
		`no JSON`:                   "",
	} {
		outputs, err := handle(step.Context{}, []step.Event{{Edge: "trigger", Data: []byte(data)}})
		if want == "" && !step.IsReject(err) {
			t.Errorf("%s: %v is no rejection", data, err)
		}
		if want != "" && (len(outputs) != 1 || string(outputs[0].Data) != want) {
			t.Errorf("%s: %v, %v", data, outputs, err)
		}
	}
}
