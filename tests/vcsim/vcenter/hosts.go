package vcenter

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vncgate/tests/vcsim/internal/control"
)

// HostSettings is what a test decides of a host in the inventory. What is absent stays as it is.
type HostSettings struct {
	// Version of the product, such as "7.0.3" (summary.config.product.version).
	Version string `json:"version"`
	// Certificate is the text of config.certificate: what vCenter knows, not what the host presents.
	Certificate string `json:"certificate"`
	// TicketHost is the `host` of tickets; at first the host's inventory name. It may be empty.
	TicketHost *string `json:"ticket_host"`
	// OmitTicketPort leaves `port` out of tickets.
	OmitTicketPort *bool `json:"omit_ticket_port"`
}

// hostTable holds what the inventory has no place for, by host name.
type hostTable struct {
	mu       sync.Mutex
	settings map[string]HostSettings
}

func (t *hostTable) get(name string) HostSettings {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.settings[name]
}

func (t *hostTable) set(name string, changed HostSettings) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.settings == nil {
		t.settings = make(map[string]HostSettings)
	}
	settings := t.settings[name]
	if changed.TicketHost != nil {
		settings.TicketHost = changed.TicketHost
	}
	if changed.OmitTicketPort != nil {
		settings.OmitTicketPort = changed.OmitTicketPort
	}
	t.settings[name] = settings
}

// Handler is the control API:
//
//   - PUT /hosts/{host} with HostSettings → 204;
//   - POST /hosts/{host}/machines with {"count": N} → 201 and N Machines;
//   - PUT /machines/{machine}/withheld with {"paths": [...]} → 204;
//   - PUT /machines/{machine}/guest with Guest, and /machines/{machine}/power with PowerSettings → 204;
//   - PUT /machines/{machine}/screen with ScreenSettings → 204;
//   - PUT /machines/{machine}/instance-uuid with {"uuid": "..."} → 204.
//
// and what rotation.go and watches.go add. A host or machine that is not in the inventory is answered with 404.
func (v *VCenter) Handler() http.Handler {
	mux := http.NewServeMux()
	v.handleRotation(mux)
	v.handlePower(mux)
	v.handleWatches(mux)
	v.handleScreens(mux)
	mux.HandleFunc("PUT /hosts/{host}", func(w http.ResponseWriter, r *http.Request) {
		var settings HostSettings
		if !control.Read(w, r, &settings) {
			return
		}
		if err := v.SetHost(r.PathValue("host"), settings); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /hosts/{host}/machines", func(w http.ResponseWriter, r *http.Request) {
		var wanted struct {
			Count int `json:"count"`
		}
		if !control.Read(w, r, &wanted) {
			return
		}
		machines, err := v.AddMachines(r.PathValue("host"), wanted.Count)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(machines) // Fails only if the client is gone.
	})
	mux.HandleFunc("PUT /machines/{machine}/withheld", func(w http.ResponseWriter, r *http.Request) {
		var wanted struct {
			Paths []string `json:"paths"`
		}
		if !control.Read(w, r, &wanted) {
			return
		}
		if err := v.Withhold(r.PathValue("machine"), wanted.Paths); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("PUT /machines/{machine}/instance-uuid", func(w http.ResponseWriter, r *http.Request) {
		var wanted struct {
			UUID string `json:"uuid"`
		}
		if !control.Read(w, r, &wanted) {
			return
		}
		if err := v.SetInstanceUUID(r.PathValue("machine"), wanted.UUID); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// SetHost changes a host of the inventory. Waiting property collectors are told of it.
func (v *VCenter) SetHost(name string, settings HostSettings) error {
	host := v.findHost(name)
	if host == nil {
		return fmt.Errorf("no host %q in the inventory", name)
	}
	v.hosts.set(name, settings)

	var changes []types.PropertyChange
	if settings.Version != "" {
		// The simulator's hosts share one description of the product.
		product := *host.Summary.Config.Product
		product.Version = settings.Version
		product.ApiVersion = settings.Version
		product.FullName = "VMware ESXi " + settings.Version
		changes = append(changes,
			types.PropertyChange{Name: "config.product", Val: product},
			types.PropertyChange{Name: "summary.config.product", Val: product},
		)
	}
	if settings.Certificate != "" {
		certificate := types.ByteSlice(settings.Certificate)
		changes = append(changes, types.PropertyChange{Name: "config.certificate", Val: certificate})
	}
	v.registry.AtomicUpdate(v.context(), host, changes)
	return nil
}

func (v *VCenter) findHost(name string) *simulator.HostSystem {
	for _, entity := range v.registry.All("HostSystem") {
		if host, ok := entity.(*simulator.HostSystem); ok && host.Name == name {
			return host
		}
	}
	return nil
}
