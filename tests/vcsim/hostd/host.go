package hostd

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
)

// Answer is what a host does with an upgrade at /ticket/.
type Answer string

const (
	// Relay checks the ticket and opens the console.
	Relay Answer = "relay"
	// Page answers 200 with a page, as a host's web server does where nothing handles the upgrade.
	Page Answer = "page"
	// Forbidden answers 403.
	Forbidden Answer = "forbidden"
	// Reset resets the connection.
	Reset Answer = "reset"
	// Silence never answers.
	Silence Answer = "silence"
)

func (a Answer) validate() error {
	switch a {
	case "", Relay, Page, Forbidden, Reset, Silence:
		return nil
	}
	return fmt.Errorf("unknown answer %q", a)
}

// HostState is what a test may see of a host.
type HostState struct {
	// Address on which the host listens.
	Address string `json:"address"`
	// Tickets is how many the host has made.
	Tickets int `json:"tickets"`
	// Upgrades are the requests that reached it, oldest first. TLS handshakes that failed are not here.
	Upgrades []Upgrade `json:"upgrades"`
}

// Upgrade is a request that reached a host.
type Upgrade struct {
	// ServerName is the name in the TLS handshake (SNI); empty when none was sent.
	ServerName string `json:"server_name"`
	// Target is the request's target: path and query.
	Target string `json:"target"`
	// Headers as they arrived, names in canonical form, Host among them.
	Headers http.Header `json:"headers"`
	// VM is the instance UUID for which the ticket was; empty when the ticket was not looked at or bad.
	VM string `json:"vm"`
	// Outcome says what the host did: an Answer, or why it did not relay.
	Outcome string `json:"outcome"`
}

// settings are what a connection is served with; a change replaces them as a whole.
type settings struct {
	certificate tls.Certificate
	answer      Answer
}

// host is one ESXi host. The lock of Hosts guards tickets; everything else guards itself.
type host struct {
	hosts    *Hosts
	name     string
	listener net.Listener
	server   *http.Server
	settings atomic.Pointer[settings]

	tickets int

	mu       sync.Mutex
	upgrades []Upgrade
	// consoles are the TCP connections to screens; closing them ends the sessions.
	consoles map[net.Conn]struct{}
}

// listen opens the host's port. Nothing is accepted before configure has given it a certificate.
func listen(hosts *Hosts, name, address string) (*host, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	h := &host{hosts: hosts, name: name, listener: listener, consoles: make(map[net.Conn]struct{})}
	h.server = &http.Server{
		Handler: http.HandlerFunc(h.serve),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			// WebSocket upgrades as in RFC 6455 exist in HTTP/1.1 only.
			NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return &h.current().certificate, nil
			},
		},
		ErrorLog: log.New(os.Stderr, name+": ", 0),
	}
	return h, nil
}

// configure sets what new connections are served with. The first call starts the host.
func (h *host) configure(certificate tls.Certificate, answer Answer) {
	if answer == "" {
		answer = Relay
	}
	first := h.settings.Swap(&settings{certificate: certificate, answer: answer}) == nil
	if first {
		go h.server.ServeTLS(h.listener, "", "") // Returns when close is called.
	}
}

func (h *host) current() *settings {
	return h.settings.Load()
}

func (h *host) address() string {
	return h.listener.Addr().String()
}

func (h *host) state() HostState {
	h.mu.Lock()
	defer h.mu.Unlock()
	upgrades := append([]Upgrade{}, h.upgrades...)
	return HostState{Address: h.address(), Tickets: h.tickets, Upgrades: upgrades}
}

func (h *host) record(upgrade Upgrade) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.upgrades = append(h.upgrades, upgrade)
}

func (h *host) close() {
	h.server.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for console := range h.consoles {
		console.Close()
	}
}
