package hostd

import (
	"encoding/json"
	"errors"
	"net/http"

	"vncgate/tests/vcsim/internal/control"
)

// Screen is where the VNC server listens that plays the screen of a virtual machine.
type Screen struct {
	Address string `json:"address"`
}

// Consoles counts the open consoles of a virtual machine.
type Consoles struct {
	Open int `json:"open"`
}

// Handler is the control API. Bodies are JSON; {vm} is an instance UUID, {host} an inventory name.
//
//	PUT  /hosts/{host}          HostSettings → HostState
//	GET  /hosts/{host}          → HostState
//	POST /hosts/{host}/tickets  TicketRequest → Ticket, or 409 with LimitReached
//	PUT  /vms/{vm}/screen       Screen → 204
//	GET  /vms/{vm}/consoles     → Consoles
//
// An unknown host is 404, unusable settings are 400 with the reason as text.
func (hs *Hosts) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /hosts/{host}", func(w http.ResponseWriter, r *http.Request) {
		var settings HostSettings
		if !control.Read(w, r, &settings) {
			return
		}
		state, err := hs.SetHost(r.PathValue("host"), settings)
		answer(w, state, err)
	})
	mux.HandleFunc("GET /hosts/{host}", func(w http.ResponseWriter, r *http.Request) {
		state, err := hs.Host(r.PathValue("host"))
		answer(w, state, err)
	})
	mux.HandleFunc("POST /hosts/{host}/tickets", func(w http.ResponseWriter, r *http.Request) {
		var request TicketRequest
		if !control.Read(w, r, &request) {
			return
		}
		ticket, err := hs.NewTicket(r.PathValue("host"), request)
		answer(w, ticket, err)
	})
	mux.HandleFunc("PUT /vms/{vm}/screen", func(w http.ResponseWriter, r *http.Request) {
		var screen Screen
		if !control.Read(w, r, &screen) {
			return
		}
		hs.SetScreen(r.PathValue("vm"), screen.Address)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /vms/{vm}/consoles", func(w http.ResponseWriter, r *http.Request) {
		answer(w, Consoles{Open: hs.Consoles(r.PathValue("vm"))}, nil)
	})
	return mux
}

func answer(w http.ResponseWriter, body any, err error) {
	var limit LimitReached
	status := http.StatusOK
	switch {
	case errors.As(err, &limit):
		status, body = http.StatusConflict, limit
	case errors.Is(err, ErrUnknownHost):
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // Fails only when the caller has left.
}
