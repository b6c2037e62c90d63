// Package control is what the control APIs of the simulated parts have in common.
package control

import (
	"encoding/json"
	"net/http"
)

// Read parses the body of a request, or answers that it is wrong. Misspelt fields are: they would set
// nothing, and a test would pass for it.
func Read(w http.ResponseWriter, r *http.Request, body any) bool {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}
