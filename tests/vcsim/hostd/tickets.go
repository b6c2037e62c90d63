package hostd

import (
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// ticketBytes is how many bytes of a ticket are random.
const ticketBytes = 25

// errBadTicket covers unknown, used and expired tickets and those of another host: the host does not
// tell them apart.
var errBadTicket = errors.New("ticket is not valid")

// LimitReached says that a virtual machine has as many consoles open as it allows.
type LimitReached struct {
	Limit int `json:"limit"`
}

func (e LimitReached) Error() string {
	return fmt.Sprintf("%d consoles are open, which is the limit", e.Limit)
}

// TicketRequest is vCenter's request for a console ticket.
type TicketRequest struct {
	// VM is the instance UUID of the virtual machine.
	VM string `json:"vm"`
	// Limit is how many consoles that machine allows at a time.
	Limit int `json:"limit"`
}

// Ticket is what a host tells vCenter about a ticket it made.
type Ticket struct {
	Ticket string `json:"ticket"`
	// Port of the host's HTTPS listener.
	Port int `json:"port"`
	// Thumbprints of the certificate that the host presents, in colon-separated upper-case hexadecimal.
	SHA1   string `json:"sha1"`
	SHA256 string `json:"sha256"`
}

// grant is a ticket that has not been used.
type grant struct {
	host    string
	request TicketRequest
	expires time.Time
}

// NewTicket makes a ticket for one console of a virtual machine that runs on the host.
// It fails with ErrUnknownHost or LimitReached.
func (hs *Hosts) NewTicket(host string, request TicketRequest) (Ticket, error) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	known, ok := hs.hosts[host]
	if !ok {
		return Ticket{}, ErrUnknownHost
	}
	if hs.open[request.VM] >= request.Limit {
		return Ticket{}, LimitReached{Limit: request.Limit}
	}

	ticket, err := known.newTicket()
	if err != nil {
		return Ticket{}, err
	}
	hs.tickets[ticket.Ticket] = grant{host: host, request: request, expires: time.Now().Add(hs.lifetime)}
	known.tickets++
	return ticket, nil
}

// redeem uses a ticket up and opens the console it stands for. The caller must call release when the
// console ends. The screen is empty when the test has given the virtual machine none.
func (hs *Hosts) redeem(host, ticket string) (vm, screen string, release func(), err error) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	held, ok := hs.tickets[ticket]
	if !ok || held.host != host || time.Now().After(held.expires) {
		return "", "", nil, errBadTicket
	}
	delete(hs.tickets, ticket)
	vm = held.request.VM
	// Tickets that were made while there was room may outnumber the room.
	if hs.open[vm] >= held.request.Limit {
		return vm, "", nil, LimitReached{Limit: held.request.Limit}
	}
	hs.open[vm]++
	release = func() {
		hs.mu.Lock()
		defer hs.mu.Unlock()
		hs.open[vm]--
	}
	return vm, hs.screens[vm], release, nil
}

// newTicket returns a ticket of the shape that public examples show, base64 and a thumbprint, with each
// character that may stand in it: who takes tickets for words of letters and digits fails here.
func (h *host) newTicket() (Ticket, error) {
	_, port, err := net.SplitHostPort(h.address())
	if err != nil {
		return Ticket{}, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return Ticket{}, err
	}
	secret := make([]byte, 3+ticketBytes)
	rand.Read(secret)            // Never fails: the process ends when the system has no randomness.
	copy(secret, "\xfb\xef\xff") // In base64, "++//".
	certificate := h.current().certificate.Certificate[0]
	sha1, sha256 := sha1.Sum(certificate), sha256.Sum256(certificate)
	return Ticket{
		Ticket: "cst-" + base64.StdEncoding.EncodeToString(secret) + "--tp-" + thumbprint(sha1[:]),
		Port:   number,
		SHA1:   thumbprint(sha1[:]),
		SHA256: thumbprint(sha256[:]),
	}, nil
}

// thumbprint writes a hash the way vSphere does: AB:CD:...
func thumbprint(hash []byte) string {
	pairs := make([]string, len(hash))
	for i, octet := range hash {
		pairs[i] = fmt.Sprintf("%02X", octet)
	}
	return strings.Join(pairs, ":")
}
