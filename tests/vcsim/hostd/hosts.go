package hostd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrUnknownHost says that no host of that name was set up.
var ErrUnknownHost = errors.New("no such host")

// Hosts is a set of ESXi hosts with their tickets and open consoles.
type Hosts struct {
	lifetime time.Duration

	mu      sync.Mutex
	hosts   map[string]*host
	tickets map[string]grant
	screens map[string]string
	open    map[string]int
}

// NewHosts returns an empty set, whose tickets live as long as given.
func NewHosts(lifetime time.Duration) *Hosts {
	return &Hosts{
		lifetime: lifetime,
		hosts:    make(map[string]*host),
		tickets:  make(map[string]grant),
		screens:  make(map[string]string),
		open:     make(map[string]int),
	}
}

// HostSettings is what a test decides of a host.
type HostSettings struct {
	// Address to listen on. Ignored once the host listens; port 0 takes a free one.
	Address string `json:"address"`
	// Certificate is the file with the host's PEM certificate chain.
	Certificate string `json:"certificate"`
	// Key is the file with its PEM private key.
	Key string `json:"key"`
	// Answer is what an upgrade gets. Empty means Relay.
	Answer Answer `json:"answer"`
}

// SetHost adds a host under its inventory name, or changes one. New settings hold for new connections.
func (hs *Hosts) SetHost(name string, settings HostSettings) (HostState, error) {
	if err := settings.Answer.validate(); err != nil {
		return HostState{}, err
	}
	pair, err := tls.LoadX509KeyPair(settings.Certificate, settings.Key)
	if err != nil {
		return HostState{}, fmt.Errorf("certificate of %s: %w", name, err)
	}

	hs.mu.Lock()
	defer hs.mu.Unlock()
	known, ok := hs.hosts[name]
	if !ok {
		if known, err = listen(hs, name, settings.Address); err != nil {
			return HostState{}, err
		}
		hs.hosts[name] = known
	}
	known.configure(pair, settings.Answer)
	return known.state(), nil
}

// Host tells what has happened at a host.
func (hs *Hosts) Host(name string) (HostState, error) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	known, ok := hs.hosts[name]
	if !ok {
		return HostState{}, ErrUnknownHost
	}
	return known.state(), nil
}

// SetScreen tells where the VNC server listens that plays the screen of a virtual machine.
func (hs *Hosts) SetScreen(instanceUUID, address string) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.screens[instanceUUID] = address
}

// Consoles counts the consoles of a virtual machine that are open now, on all hosts.
func (hs *Hosts) Consoles(instanceUUID string) int {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.open[instanceUUID]
}

// Close stops all hosts and ends their consoles.
func (hs *Hosts) Close() {
	hs.mu.Lock()
	hosts := hs.hosts
	hs.hosts = make(map[string]*host)
	hs.mu.Unlock()
	for _, known := range hosts {
		known.close()
	}
}
